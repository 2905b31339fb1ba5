# PostgreSQL from Debian, run by nobody special: docker build -f infra/images/postgres.Dockerfile infra/images
# In production take a managed PostgreSQL, or postgres:17 from Docker's library, which knows the same variables.
ARG DEBIAN=debian:trixie-20251103-slim
FROM ${DEBIAN}
ARG MAJOR=17
LABEL org.opencontainers.image.title="fleetloop/postgres" \
      org.opencontainers.image.description="Debian's PostgreSQL" \
      org.opencontainers.image.licenses="PostgreSQL"
# hadolint ignore=DL3008
RUN apt-get update \
    && mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf \
    && apt-get install -y --no-install-recommends "postgresql-${MAJOR}" \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 fleetloop && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data fleetloop \
    && install -d -o 10001 -g 10001 -m 0700 /data
ENV PATH=/usr/lib/postgresql/${MAJOR}/bin:/usr/local/bin:/usr/bin:/bin PGDATA=/data/pg LANG=C.UTF-8
COPY postgres/entrypoint.sh /usr/local/bin/docker-entrypoint.sh
USER 10001:10001
VOLUME /data
EXPOSE 5432
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s CMD ["pg_isready", "-q", "-h", "127.0.0.1"]
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
