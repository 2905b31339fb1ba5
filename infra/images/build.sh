#!/usr/bin/env bash
# Builds every image without a container registry: the base images are made from Debian's packages, everything else by the
# very Dockerfiles that are built elsewhere. Nothing is done twice: what is there and unchanged is kept.
#
# build.sh PYTHON, with a Python that has pip. FLEETLOOP_DEBIAN_MIRROR names another mirror.
set -euo pipefail
cd "$(dirname "$0")/../.."

PYTHON=$1
HERE=infra/images
HOME_DIR=$("$HERE/engine.sh" home)
SUITE=trixie
DEBIAN_BASE=fleetloop-base/debian:$SUITE # stands in for debian:trixie-slim
PYTHON_BASE=fleetloop-base/python:3.13   # stands in for python:3.13-slim-trixie
MIRROR=${FLEETLOOP_DEBIAN_MIRROR:-http://deb.debian.org/debian}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1767225600)}
export DOCKER_BUILDKIT=0 # an engine from Debian has no other builder
export DOCKER_CLI_HINTS=false

if [[ -S $HOME_DIR/docker.sock ]]; then
  export DOCKER_HOST=${DOCKER_HOST:-unix://$HOME_DIR/docker.sock}
fi

have() { docker image inspect "$1" >/dev/null 2>&1; }

# Says what a step took; its words only if it fails.
step() {
  local name=$1 begun=$SECONDS log
  shift
  log=$(mktemp)
  if "$@" >"$log" 2>&1; then
    echo "  $name: $((SECONDS - begun)) s"
    rm -f "$log"
  else
    echo "make docker: $name fails:" >&2
    tail -n 25 "$log" >&2
    rm -f "$log"
    return 1
  fi
}

debian_base() {
  have "$DEBIAN_BASE" && return 0
  mkdir -p "$HOME_DIR"
  mmdebstrap --variant=minbase --include=ca-certificates \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    "$SUITE" - "$MIRROR" | docker import -c 'CMD ["bash"]' - "$DEBIAN_BASE"
}

python_base() {
  have "$PYTHON_BASE" && return 0
  docker build --network host -t "$PYTHON_BASE" - <<END
FROM $DEBIAN_BASE
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*
END
}

# Every wheel that the images need, checked against the hashes they will be checked against again.
wheels() {
  local platforms=(any) number name pins
  pins=$(cat "$HERE"/requirements/*.txt | sha256sum)
  [[ $(cat "$HERE/wheels/.pins" 2>/dev/null) != "$pins" ]] || return 0
  for number in 2_28 2_27 2_26 2_24 2_17 2_12 2_5; do platforms+=("manylinux_${number}_$(uname -m)"); done
  platforms+=("manylinux2014_$(uname -m)" "manylinux1_$(uname -m)")
  for name in server agent build; do
    "$PYTHON" -m pip download --isolated --quiet --no-deps --only-binary=:all: --require-hashes \
      --python-version 3.13 --implementation cp "${platforms[@]/#/--platform=}" \
      --find-links "$HERE/wheels" --dest "$HERE/wheels" --requirement "$HERE/requirements/$name.txt" || return 1
  done
  echo "$pins" >"$HERE/wheels/.pins"
}

image() { # NAME CONTEXT ARGUMENTS...
  local name=$1 context=$2
  shift 2
  docker build --network host --build-arg "DEBIAN=$DEBIAN_BASE" --build-arg "PYTHON=$PYTHON_BASE" \
    --build-arg "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH" -t "fleetloop/$name" -f "$HERE/$name.Dockerfile" "$@" "$context"
}

from_debian() {
  local failed=0
  step postgres image postgres "$HERE" || failed=1
  step pgbouncer image pgbouncer "$HERE" || failed=1
  step nginx image nginx infra || failed=1
  step prometheus image prometheus infra || failed=1
  step s3 image s3 "$HERE" || failed=1
  return $failed
}

from_wheels() {
  step wheels wheels || return 1
  step server image server . --build-arg PIP_NO_INDEX=1 || return 1
  step agent image agent . --build-arg PIP_NO_INDEX=1 || return 1
}

step 'base of Debian' debian_base
step 'base of Python' python_base
from_debian &
others=$!
failed=0
from_wheels || failed=1
wait "$others" || failed=1
((failed)) || echo "images are built: docker images 'fleetloop/*' (all of it $SECONDS s)"
exit $failed
