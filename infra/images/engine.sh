#!/usr/bin/env bash
# A Docker engine of our own on a machine that has none: `engine.sh start`, `stop`, `home` (where it keeps its things).
#
# An engine that answers already (DOCKER_HOST, or Docker's own socket) is used as it is and never stopped. Ours has its own
# folder, listens on a unix socket there and nowhere else, and leaves the machine's firewall and routing alone, so its
# containers do not reach the internet; `docker build --network host` does.
set -euo pipefail

HOME_DIR=${FLEETLOOP_DOCKER_HOME:-/var/tmp/fleetloop-docker}
SOCKET=$HOME_DIR/docker.sock
PIDFILE=$HOME_DIR/dockerd.pid
PACKAGES=(docker.io mmdebstrap iptables)
COMPOSE_SUITE=trixie # bookworm's docker-compose is the old one, which knows nothing of the Compose specification
PLUGIN=docker/cli-plugins/docker-compose

fail() {
  echo "make docker: $*" >&2
  exit 1
}

answers() { docker "$@" version >/dev/null 2>&1; }

install_missing() {
  local missing=()
  command -v dockerd >/dev/null || missing+=(docker.io)
  command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
  command -v iptables >/dev/null || missing+=(iptables) # names of containers are resolved by a rule inside each
  ((${#missing[@]})) || return 0
  [[ $EUID -eq 0 ]] || fail "as root, first: apt-get install --no-install-recommends ${PACKAGES[*]}"
  command -v apt-get >/dev/null || fail "no Docker answers, and without apt-get none can be installed here"
  apt-get update -qq || true # a source of the machine's own may be gone; what counts is the next line
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# The compose plugin of a newer Debian, which needs nothing but an old libc, into our own folder.
fetch_compose() {
  docker compose version >/dev/null 2>&1 && return 0
  local apt=$HOME_DIR/apt to=$HOME_DIR/cli
  [[ -x $to/cli-plugins/docker-compose ]] && return 0
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$to/cli-plugins"
  local keys=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [signed-by=$keys] http://deb.debian.org/debian $COMPOSE_SUITE main" >"$apt/sources.list"
  local options=(-qq -o APT::Sandbox::User=root -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o Dir::State::status=/dev/null)
  if apt-get "${options[@]}" update && (cd "$apt" && apt-get "${options[@]}" download docker-compose); then
    dpkg-deb -x "$apt"/docker-compose_*.deb "$apt/tree"
    install -m 0755 "$apt/tree/usr/libexec/$PLUGIN" "$to/cli-plugins/docker-compose"
  else
    echo "make docker: no compose plugin is to be had here; compose.yaml is not started" >&2
  fi
  rm -rf "$apt"
}

start() {
  if answers || answers -H "unix://$SOCKET"; then
    fetch_compose
    return 0
  fi
  install_missing
  [[ $EUID -eq 0 ]] || fail "no Docker answers, and only root can start one (or start yours: systemctl start docker)"
  mkdir -p "$HOME_DIR"
  chmod 0711 "$HOME_DIR"
  # containerd and runc come with it; an address range few networks use, and no rule of the host is changed.
  setsid dockerd --data-root "$HOME_DIR/data" --exec-root "$HOME_DIR/exec" --pidfile "$PIDFILE" -H "unix://$SOCKET" \
    --iptables=false --ip6tables=false --ip-forward=false --bip 172.30.0.1/24 \
    --default-address-pool base=172.30.64.0/18,size=24 \
    >"$HOME_DIR/dockerd.log" 2>&1 </dev/null &
  for _ in $(seq 100); do
    if answers -H "unix://$SOCKET"; then
      fetch_compose
      return 0
    fi
    sleep 0.1
  done
  fail "dockerd does not answer: $(tail -3 "$HOME_DIR/dockerd.log")"
}

stop() {
  if [[ ! -f $PIDFILE ]]; then
    echo "no engine of ours runs"
    return 0
  fi
  local pid
  pid=$(<"$PIDFILE")
  docker -H "unix://$SOCKET" ps -q 2>/dev/null | xargs -r docker -H "unix://$SOCKET" stop -t 5 >/dev/null || true
  kill "$pid" 2>/dev/null || true
  for _ in $(seq 200); do
    if ! kill -0 "$pid" 2>/dev/null; then
      rm -f "$PIDFILE" "$SOCKET"
      umount "$HOME_DIR"/exec/netns/* 2>/dev/null || true # it leaves one, and the folder could not be removed
      return 0
    fi
    sleep 0.1
  done
  fail "dockerd (process $pid) does not end"
}

case ${1:-} in
  start) start ;;
  stop) stop ;;
  home) echo "$HOME_DIR" ;;
  *) fail "say start, stop or home" ;;
esac
