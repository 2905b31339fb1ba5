#!/usr/bin/env bash
# Writes requirements/*.txt: what the images install, at the versions of requirements.lock, with the hashes of every file.
# pins.sh UV
set -euo pipefail
cd "$(dirname "$0")/../.."

pin() { # NAME SOURCE ARGUMENTS...
  local name=$1 source=$2
  shift 2
  "$UV" pip compile --quiet --no-config --no-header --no-annotate --generate-hashes --constraint requirements.lock \
    --python-version 3.13 --python-platform x86_64-manylinux_2_28 -o "infra/images/requirements/$name.txt" "$source" "$@"
}

UV=$1
pin server pyproject.toml --extra fast
pin agent infra/packaging/agent/pyproject.toml --extra onnx --extra recorder
pin build infra/images/requirements/build.in
