#!/usr/bin/env bash
# Two key servers over one PostgreSQL, on one machine: a database cluster in a folder of its own, an organisation that is
# moved to it, two servers, a daemon that knows both; then one server is killed. Everything is removed at the end.
#
#   bash deploy/postgres/example.sh [--bin-dir FOLDER]
#
#   --bin-dir    use the programs in this folder instead of building
set -euo pipefail

bin_dir=''
while [ $# -gt 0 ]; do
    case $1 in
        --bin-dir) bin_dir=${2:?--bin-dir needs a folder}; shift ;;
        -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "example: error: unknown option '$1'" >&2; exit 2 ;;
    esac
    shift
done
repo=$(cd "$(dirname "$0")/../.." && pwd)
step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
die() { printf 'example: error: %s\n' "$*" >&2; exit 1; }
show() { printf '$ %s\n' "$*" >&2; "$@"; }

postgres=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
[ -x "${postgres:-/nowhere}/initdb" ] || die 'PostgreSQL is not installed: apt-get install postgresql'
if [ -z "$bin_dir" ]; then
    (cd "$repo" && cargo build --release --locked --bins)
    bin_dir=${CARGO_TARGET_DIR:-$repo/target}/release
fi
PATH=$(cd "$bin_dir" && pwd):$PATH

# A socket's path is at most 107 bytes long: not below $TMPDIR.
dir=$(mktemp -d /tmp/tobari-postgres.XXXXXX)
chmod 711 "$dir"
mkdir -m 700 "$dir/database"
as=()
if [ "$(id -u)" -eq 0 ]; then
    chown nobody "$dir/database"
    as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
fi
pids=()
stop() {
    status=$?
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    if [ $status -ne 0 ]; then tail -n 15 "$dir"/*.log >&2 || true; fi
    rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT TERM
wait_for() { # what command...
    local what=$1 limit=$((SECONDS + 120)); shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $limit ] || die "waited too long for $what"
        sleep 0.1
    done
}
free_port() {
    local port
    for _ in $(seq 50); do
        port=$((20000 + RANDOM % 20000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then echo "$port"; return; fi
    done
    die 'no free port found'
}

step 'PostgreSQL'
(cd / && "${as[@]}" "$postgres/initdb" --auth=trust --username=tobari --encoding=UTF8 --no-locale -D "$dir/database/data") >"$dir/initdb.log"
(cd / && exec "${as[@]}" "$postgres/postgres" -D "$dir/database/data" -k "$dir/database" -c listen_addresses=) >"$dir/postgres.log" 2>&1 &
pids+=($!)
# The socket belongs to the database's user; others need the way to it only.
chmod 711 "$dir/database"
wait_for PostgreSQL "$postgres/psql" -h "$dir/database" -U tobari -d postgres -c 'SELECT 1'
show "$postgres/createdb" -h "$dir/database" -U tobari tobari
store="postgres://tobari@localhost/tobari?host=$dir/database"

step 'An organisation, moved to PostgreSQL'
(umask 077; printf 'admin-Tobari-2026' >"$dir/admin.password")
show tobari-keyserver init --data-dir "$dir/keyserver" --organisation 'みほん市' --admin admin \
    --admin-password-file "$dir/admin.password" --recovery-key-out "$dir/recovery.key" --token-out "$dir/token" >"$dir/init.log"
show tobari-keyserver migrate-store --data-dir "$dir/keyserver" --to "$store"

step 'Two servers'
urls=() servers=()
for number in 1 2; do
    port=$(free_port)
    tobari-keyserver serve --store "$store" --root-key-file "$dir/keyserver/root.key" --listen "127.0.0.1:$port" \
        >"$dir/server$number.log" 2>&1 &
    pids+=($!) servers+=($!)
    urls+=("https://127.0.0.1:$port")
    wait_for "server $number" grep -q '"serving"' "$dir/server$number.log"
    echo "server $number: https://127.0.0.1:$port"
done

step 'A terminal that knows both'
ca_sha256=$(sed -n 's/.*\([0-9a-f]\{64\}\).*/\1/p' "$dir/init.log" | head -n 1)
show tobarid enrol --server "${urls[0]}" --server "${urls[1]}" --ca-sha256 "$ca_sha256" --token-file "$dir/token" \
    --state-dir "$dir/daemon" --name "$(uname -n)"
export TOBARI_SOCKET=$dir/control.sock
printf 'state_dir = "%s"\nsocket = "%s"\nroles = ["view"]\n' "$dir/daemon" "$dir/control.sock" >"$dir/tobarid.toml"
tobarid run --config "$dir/tobarid.toml" >"$dir/tobarid.log" 2>&1 &
pids+=($!)
wait_for tobarid tobari status
tobari login admin --password-stdin <"$dir/admin.password"
show tobari admin group add 総務部

step 'One server is killed'
kill -9 "${servers[0]}"
show tobari admin group list
show tobari admin group add 税務課
show tobari admin group list

step 'The audit log is one'
show tobari-keyserver audit verify --store "$store"
