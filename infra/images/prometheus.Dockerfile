# Prometheus from Debian with our alert rules: docker build -f infra/images/prometheus.Dockerfile infra
ARG DEBIAN=debian:trixie-20251103-slim
FROM ${DEBIAN}
LABEL org.opencontainers.image.title="fleetloop/prometheus" \
      org.opencontainers.image.description="Prometheus with the alert rules of fleetloop" \
      org.opencontainers.image.licenses="Apache-2.0"
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends curl prometheus \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 fleetloop && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data fleetloop \
    && install -d -o 10001 -g 10001 -m 0750 /data
COPY observability/alerts.yaml observability/prometheus.yaml /etc/fleetloop/
USER 10001:10001
VOLUME /data
EXPOSE 9090
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s CMD ["curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:9090/-/ready"]
ENTRYPOINT ["prometheus", "--storage.tsdb.path=/data", "--web.listen-address=0.0.0.0:9090"]
CMD ["--config.file=/etc/fleetloop/prometheus.yaml"]
