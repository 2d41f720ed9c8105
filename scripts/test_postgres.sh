#!/usr/bin/env bash
# PostgreSQL for tests: data and socket in one directory, no TCP, nothing flushed to the disk, not as root.
#   scripts/test_postgres.sh serve DIRECTORY   runs a server in the foreground; the directory is empty or of an earlier run
#   scripts/test_postgres.sh                   as a setup script of cargo nextest: one server for the whole run, ended with it
set -euo pipefail

find_program() {
  local found
  for found in "$(command -v "$1" || true)" /usr/lib/postgresql/*/bin/"$1"; do
    if [ -x "$found" ]; then readlink -f "$found"; return; fi
  done
  echo "$1 is not installed; run: sudo apt-get install postgresql" >&2
  return 1
}

serve() {
  local directory=$1 initdb postgres
  initdb=$(find_program initdb)
  postgres=$(find_program postgres)
  # It ends with what has started it, also if that is killed.
  local run=(setpriv --pdeathsig KILL)
  if [ "$(id -u)" = 0 ]; then
    if chown nobody "$directory" 2>/dev/null; then
      run+=(--reuid=nobody --regid=nogroup --clear-groups)
    else
      # Root of a user namespace that has no other user.
      run=(unshare --user --map-user=65534 --map-group=65534 -- "${run[@]}")
    fi
  fi
  if [ ! -e "$directory/data/PG_VERSION" ]; then
    "${run[@]}" "$initdb" --pgdata="$directory/data" --username=anteroom --auth=trust --encoding=UTF8 --locale=C --no-sync >/dev/null
  fi
  exec "${run[@]}" "$postgres" -D "$directory/data" -k "$directory" -c listen_addresses= -c fsync=off -c full_page_writes=off \
    -c wal_level=minimal -c max_wal_senders=0 -c max_connections=200 -c shared_buffers=32MB -c log_min_messages=warning "${@:2}"
}

if [ "${1:-}" = serve ]; then
  serve "${@:2}"
fi

# Nextest runs this script, and reads variables for the tests from a file.
directory=$(mktemp -d)
runner=$PPID
(
  setsid "$0" serve "$directory" >"$directory.log" 2>&1 &
  server=$!
  while kill -0 "$runner" 2>/dev/null && kill -0 "$server" 2>/dev/null; do sleep 1; done
  kill -INT "$server" 2>/dev/null || true
  wait "$server" || true
  rm -rf "$directory" "$directory.log"
) </dev/null >/dev/null 2>&1 &
for _ in $(seq 300); do
  if [ -S "$directory/.s.PGSQL.5432" ] && grep -q 'ready' "$directory/data/postmaster.pid" 2>/dev/null; then
    echo "ANTEROOM_TEST_POSTGRES=$directory" >>"$NEXTEST_ENV"
    exit 0
  fi
  sleep 0.1
done
echo "PostgreSQL did not start:" >&2
cat "$directory.log" >&2
exit 1
