#!/bin/bash
# Makes the cluster at the first start, then becomes PostgreSQL. Of the official image's variables it knows POSTGRES_USER,
# POSTGRES_DB, POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE. Nobody may write anything outside $PGDATA, /tmp.
set -euo pipefail

user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}

initialise() {
  if [[ -n ${POSTGRES_PASSWORD_FILE:-} ]]; then
    exec 3<"$POSTGRES_PASSWORD_FILE"
  elif [[ -n ${POSTGRES_PASSWORD:-} ]]; then
    exec 3<<<"$POSTGRES_PASSWORD"
  else
    echo 'PostgreSQL needs a password: set POSTGRES_PASSWORD_FILE' >&2
    exit 1
  fi
  local new=$PGDATA.new # so that a start that was killed half-way leaves no half cluster behind
  rm -rf "$new"
  initdb --pgdata="$new" --username="$user" --pwfile=/dev/fd/3 --auth-host=scram-sha-256 --auth-local=trust \
    --encoding=UTF8 --locale=C.UTF-8 >/dev/null
  echo 'host all all all scram-sha-256' >>"$new/pg_hba.conf"
  printf "listen_addresses = '*'\nunix_socket_directories = '/tmp'\n" >>"$new/postgresql.conf"
  pg_ctl --pgdata="$new" --silent --wait --options="-c listen_addresses=''" start
  [[ $database = postgres ]] || createdb --host=/tmp --username="$user" "$database"
  pg_ctl --pgdata="$new" --silent --mode=fast --wait stop
  mv "$new" "$PGDATA"
  echo 'PostgreSQL init process complete; ready for start up.'
}

[[ $# -gt 0 ]] || set -- postgres
if [[ $1 = postgres ]]; then
  [[ -s $PGDATA/PG_VERSION ]] || initialise
  unset POSTGRES_PASSWORD
fi
exec "$@"
