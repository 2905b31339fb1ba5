# The device agent alone: docker build -f infra/images/agent.Dockerfile -t fleetloop/agent .
ARG PYTHON=python:3.13.9-slim-trixie

FROM ${PYTHON} AS build
ARG PIP_NO_INDEX
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_FIND_LINKS=/wheels PYTHONDONTWRITEBYTECODE=1
COPY infra/images/wheels /wheels
COPY infra/images/requirements/build.txt infra/images/requirements/agent.txt /requirements/
RUN python3 -m venv /opt/build && /opt/build/bin/pip install --no-deps --require-hashes -r /requirements/build.txt \
    && python3 -m venv /opt/fleetloop \
    && /opt/fleetloop/bin/pip install --no-compile --no-deps --require-hashes -r /requirements/agent.txt \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/fleetloop/lib
WORKDIR /source
ARG SOURCE_DATE_EPOCH=1767225600
COPY infra/packaging/agent infra/packaging/agent
COPY agents agents
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist infra/packaging/agent \
    && /opt/fleetloop/bin/pip install --no-compile --no-deps --no-index /dist/*.whl \
    && /opt/fleetloop/bin/pip uninstall --yes pip \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash \
       /opt/fleetloop/lib/python3*/site-packages/agents

FROM ${PYTHON}
LABEL org.opencontainers.image.title="fleetloop/agent" \
      org.opencontainers.image.description="The fleetloop device agent" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 fleetloop \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/fleetloop --create-home --shell /usr/sbin/nologin fleetloop
COPY --from=build /opt/fleetloop /opt/fleetloop
ENV PATH=/opt/fleetloop/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/fleetloop
VOLUME /var/lib/fleetloop
# Exit 3 means not enrolled yet, which is no illness.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s \
    CMD ["sh", "-c", "fleetloop-agent status --state-dir /var/lib/fleetloop >/dev/null || [ $? -eq 3 ]"]
ENTRYPOINT ["fleetloop-agent"]
CMD ["run", "--state-dir", "/var/lib/fleetloop"]
