{{- define "fleetloop.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* Labels that select: (dict "root" $ "component" "people") */}}
{{- define "fleetloop.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* The same in one line, for matchLabels. */}}
{{- define "fleetloop.match" -}}
{{ include "fleetloop.selector" . | fromYaml | toJson }}
{{- end }}

{{- define "fleetloop.labels" -}}
{{ include "fleetloop.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* An image's whole name: (dict "root" $ "image" .Values.image) */}}
{{- define "fleetloop.image" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}{{ else }}{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "fleetloop.container.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* What every pod has before its containers: (dict "root" $ "component" "people" "account" "people") */}}
{{- define "fleetloop.pod" -}}
serviceAccountName: {{ include "fleetloop.name" .root }}-{{ .account | default .component }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* No two of a component on one node or in one zone while that can be had. */}}
{{- define "fleetloop.spread" -}}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ $key }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    matchLabelKeys: [pod-template-hash]
    labelSelector: {matchLabels: {{ include "fleetloop.match" $ }}}
  {{- end }}
{{- end }}

{{/* Probes on the metrics port: alive is not ready, an outage of the database is no reason to restart. */}}
{{- define "fleetloop.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end }}

{{/* One ends when the next is ready, and settings or the proxy's configuration that change start new pods. */}}
{{- define "fleetloop.rolling" -}}
revisionHistoryLimit: 5
strategy:
  type: RollingUpdate
  rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
{{- end }}

{{- define "fleetloop.checksum" -}}
checksum/settings: {{ include (print $.Template.BasePath "/settings.yaml") . | sha256sum }}
{{- end }}

{{/* Environment, mounts and volumes of a process of the control plane. Secrets are files (FLEETLOOP_SECRETS_DIR). */}}
{{- define "fleetloop.database.environment" -}}
- {name: PGSSLMODE, value: {{ .Values.database.sslMode }}}
{{- if .Values.database.authorities }}
- {name: PGSSLROOTCERT, value: /run/fleetloop-secrets/database-ca.crt}
{{- end }}
{{- end }}

{{- define "fleetloop.server.environment" -}}
env: {{- include "fleetloop.database.environment" . | nindent 2 }}
envFrom:
  - configMapRef: {name: {{ include "fleetloop.name" . }}-settings}
{{- end }}

{{- define "fleetloop.server.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: home, mountPath: /var/lib/fleetloop}
- {name: secrets, mountPath: /run/fleetloop-secrets, readOnly: true}
{{- if .Values.keys.claim }}
- {name: keys, mountPath: /var/lib/fleetloop/keys}
{{- end }}
{{- if .Values.objectStore.credentialsSecret }}
- {name: store, mountPath: /run/fleetloop-store, readOnly: true}
{{- end }}
{{- if .Values.authorities }}
- {name: authorities, mountPath: /etc/fleetloop-authorities, readOnly: true}
{{- end }}
{{- end }}

{{- define "fleetloop.server.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
- name: home
  emptyDir: {medium: Memory, sizeLimit: 16Mi}
{{ include "fleetloop.secrets.volume" . }}
{{- if .Values.keys.claim }}
- name: keys
  persistentVolumeClaim: {claimName: {{ .Values.keys.claim }}}
{{- else }}
- name: keys
  secret: {secretName: {{ .Values.keys.secret }}, defaultMode: 0440, items: [{key: keys.tar, path: keys.tar}]}
{{- end }}
{{- with .Values.objectStore.credentialsSecret }}
- name: store
  secret: {secretName: {{ . }}, defaultMode: 0440, items: [{key: credentials, path: credentials}]}
{{- end }}
{{- with .Values.authorities }}
- name: authorities
  configMap: {name: {{ . }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- end }}

{{- define "fleetloop.secrets.volume" -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ .Values.database.secret.name }}
          items:
            - {key: {{ .Values.database.secret.key }}, path: fleetloop_database_url}
            {{- with .Values.database.directKey }}
            - {key: {{ . }}, path: fleetloop_database_direct_url}
            {{- end }}
            {{- with .Values.database.replicaKey }}
            - {key: {{ . }}, path: fleetloop_database_replica_url}
            {{- end }}
      {{- with .Values.database.authorities }}
      - configMap:
          name: {{ . }}
          items: [{key: ca.crt, path: database-ca.crt}]
      {{- end }}
      {{- with .Values.oidcSecret }}
      - secret:
          name: {{ . }}
          items: [{key: client_secret, path: fleetloop_oidc_client_secret}]
      {{- end }}
{{- end }}

{{/* A key file must belong to the process and to nobody else, which a Secret's files do not: they are copied. */}}
{{- define "fleetloop.keys.init" -}}
{{- if not .Values.keys.claim }}
initContainers:
  - name: keys
    image: {{ include "fleetloop.image" (dict "root" . "image" .Values.image) }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command:
      - sh
      - -euc
      - |
        umask 077
        mkdir -p /var/lib/fleetloop/keys
        cd /var/lib/fleetloop/keys
        tar --extract --no-same-owner --no-same-permissions --file /run/fleetloop-keys/keys.tar
        for file in keys.json device-ca.pem; do
          test -s "$file" || { echo "keys.tar has no $file: fleetloop keys init and docs/how-to/kubernetes.md" >&2; exit 1; }
        done
        test ! -e offline || { echo "keys.tar holds offline keys, which no server may have" >&2; exit 1; }
    securityContext: {{- include "fleetloop.container.security" . | nindent 6 }}
    resources:
      requests: {cpu: 10m, memory: 16Mi}
      limits: {memory: 64Mi}
    volumeMounts:
      - {name: home, mountPath: /var/lib/fleetloop}
      - {name: keys, mountPath: /run/fleetloop-keys, readOnly: true}
{{- end }}
{{- end }}
