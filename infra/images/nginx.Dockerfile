# nginx from Debian with our configuration of mutual TLS: docker build -f infra/images/nginx.Dockerfile infra
# Certificates are mounted under /etc/fleetloop, the API's unix sockets under /run/fleetloop-devices.
ARG DEBIAN=debian:trixie-20251103-slim
FROM ${DEBIAN}
LABEL org.opencontainers.image.title="fleetloop/nginx" \
      org.opencontainers.image.description="nginx with mutual TLS in front of devices" \
      org.opencontainers.image.licenses="BSD-2-Clause"
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends curl nginx-light \
    && rm -rf /var/lib/apt/lists/* /etc/nginx/sites-enabled/default \
    && groupadd --gid 10001 fleetloop && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp fleetloop \
    && install -d -o 10001 -g 10001 -m 0750 /etc/fleetloop /run/fleetloop-devices
COPY images/nginx/nginx.conf /etc/nginx/nginx.conf
COPY nginx/devices.conf /etc/nginx/fleetloop/devices.conf
USER 10001:10001
EXPOSE 8443
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s \
    CMD ["sh", "-c", "[ \"$(curl -ks -o /dev/null -w '%{http_code}' https://127.0.0.1:8443/)\" = 404 ]"]
ENTRYPOINT ["nginx"]
CMD ["-g", "daemon off;"]
