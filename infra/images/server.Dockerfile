# The control plane, its worker and its flows: docker build -f infra/images/server.Dockerfile -t fleetloop/server .
ARG PYTHON=python:3.13.9-slim-trixie

FROM ${PYTHON} AS build
# Without an index: --build-arg PIP_NO_INDEX=1 and wheels in infra/images/wheels (make docker does that).
ARG PIP_NO_INDEX
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_FIND_LINKS=/wheels PYTHONDONTWRITEBYTECODE=1
COPY infra/images/wheels /wheels
COPY infra/images/requirements/build.txt infra/images/requirements/server.txt /requirements/
RUN python3 -m venv /opt/build && /opt/build/bin/pip install --no-deps --require-hashes -r /requirements/build.txt \
    && python3 -m venv /opt/fleetloop \
    && /opt/fleetloop/bin/pip install --no-compile --no-deps --require-hashes -r /requirements/server.txt \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/fleetloop/lib
WORKDIR /source
ARG SOURCE_DATE_EPOCH=1767225600
COPY pyproject.toml README.md LICENSE ./
COPY agents agents
COPY control_plane control_plane
COPY flows flows
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && /opt/fleetloop/bin/pip install --no-compile --no-deps --no-index /dist/*.whl \
    && /opt/fleetloop/bin/pip uninstall --yes pip \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash \
       /opt/fleetloop/lib/python3*/site-packages/agents \
       /opt/fleetloop/lib/python3*/site-packages/control_plane \
       /opt/fleetloop/lib/python3*/site-packages/flows

FROM ${PYTHON}
LABEL org.opencontainers.image.title="fleetloop/server" \
      org.opencontainers.image.description="Control plane, worker and flows of fleetloop" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 fleetloop \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/fleetloop --create-home --shell /usr/sbin/nologin fleetloop \
    && install -d -o fleetloop -g fleetloop -m 0750 /etc/fleetloop /run/fleetloop-devices /run/fleetloop-secrets \
       /run/fleetloop-store
COPY --from=build /opt/fleetloop /opt/fleetloop
ENV PATH=/opt/fleetloop/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    FLEETLOOP_HOME=/var/lib/fleetloop FLEETLOOP_METRICS_PORT=9101
USER 10001:10001
WORKDIR /var/lib/fleetloop
EXPOSE 8080 9101
# Alive, not ready: an outage of the database is no reason to restart this. Probes of readiness ask /readyz.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python3", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['FLEETLOOP_METRICS_PORT'] + '/healthz', timeout=4)"]
CMD ["python3", "-m", "control_plane.main", "--serve", "people", "--host", "0.0.0.0", "--metrics-port", "9101", "--metrics-host", "0.0.0.0"]
