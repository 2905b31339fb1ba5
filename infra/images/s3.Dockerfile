# An S3 for trials: one monitor, one OSD and one gateway of Ceph in one container; one copy of everything.
# docker build -f infra/images/s3.Dockerfile infra/images. Production has a real one: a Ceph cluster, or a provider's.
ARG DEBIAN=debian:trixie-20251103-slim
FROM ${DEBIAN}
LABEL org.opencontainers.image.title="fleetloop/s3" \
      org.opencontainers.image.description="Ceph's S3 gateway on one disk, for trials" \
      org.opencontainers.image.licenses="LGPL-2.1"
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ceph-common ceph-mon ceph-osd curl radosgw \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 fleetloop && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data fleetloop \
    && install -d -o 10001 -g 10001 -m 0750 /data
COPY s3/entrypoint.sh /usr/local/bin/docker-entrypoint.sh
COPY s3/ceph.conf /etc/fleetloop/ceph.conf
ENV STORE=memstore
USER 10001:10001
VOLUME /data
EXPOSE 7480
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s CMD ["curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:7480/"]
ENTRYPOINT ["docker-entrypoint.sh"]
