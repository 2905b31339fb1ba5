# PgBouncer from Debian: docker build -f infra/images/pgbouncer.Dockerfile infra/images
# Who may come in is mounted: /etc/pgbouncer/users/users.txt.
ARG DEBIAN=debian:trixie-20251103-slim
FROM ${DEBIAN}
LABEL org.opencontainers.image.title="fleetloop/pgbouncer" \
      org.opencontainers.image.description="Debian's PgBouncer" \
      org.opencontainers.image.licenses="ISC"
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends pgbouncer postgresql-client \
    && rm -rf /var/lib/apt/lists/* && chmod 0755 /etc/pgbouncer \
    && groupadd --gid 10001 fleetloop && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp fleetloop
COPY pgbouncer/pgbouncer.ini /etc/pgbouncer/pgbouncer.ini
USER 10001:10001
EXPOSE 6432
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s CMD ["pg_isready", "-q", "-h", "127.0.0.1", "-p", "6432"]
ENTRYPOINT ["pgbouncer"]
CMD ["/etc/pgbouncer/pgbouncer.ini"]
