#!/usr/bin/env bash
# Measures a key server that knows very many leases: how long it takes to start, what it holds in memory, how long lists, an exchange and a
# revocation take; and how long after its end a lease still opens. Needs jq and python3; no root.
#
#   bash tests/bench/leases.sh
#   TOBARI_BENCH_DIR=/path         where the files are written (default: a folder under $TMPDIR; needs 5 GiB)
#   TOBARI_BENCH_LEASES=1000000    leases
#   TOBARI_BIN_DIR=/path           use the programs there instead of building
set -euo pipefail
cd "$(dirname "$0")/../.."

leases=${TOBARI_BENCH_LEASES:-1000000}
command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
bin=${TOBARI_BIN_DIR:-}
if [ -z "$bin" ]; then
    cargo build --quiet --locked --release --bins
    bin=$(cargo metadata --format-version 1 --no-deps --locked | jq -r .target_directory)/release
fi
PATH=$bin:$PATH

dir=$(mktemp -d "${TOBARI_BENCH_DIR:-${TMPDIR:-/tmp}}/tobari-bench.XXXXXX")
export TOBARI_SOCKET=$dir/control.sock XDG_STATE_HOME=$dir/state TOBARI_LANG=en
server='' daemon=''
stop() { [ -z "$1" ] || { kill "$1" 2>/dev/null || true; wait "$1" 2>/dev/null || true; }; }
cleanup() {
    stop "$daemon"
    stop "$server"
    rm -rf "$dir"
}
trap cleanup EXIT

say() { printf '  %-58s %s\n' "$1" "$2"; }
now() { date +%s.%N; }
wait_for() { local limit=$((SECONDS + $1)); shift; until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $limit ] || { echo "waited too long: $*" >&2; tail -n 5 "$dir"/*.log >&2; exit 1; }; sleep 0.02; done; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.3f s", b - a }'; }
timed() { local start; start=$(now); "$@" >/dev/null; since "$start"; }
memory() { awk '$1 == "VmRSS:" { printf "%.0f MiB", $2 / 1024 }' "/proc/$server/status"; }
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$port"); }
serve() {
    tobari-keyserver serve --data-dir "$dir/keyserver" --listen "127.0.0.1:$port" >>"$dir/keyserver.log" 2>&1 &
    server=$!
    wait_for 300 listens
}

( umask 077; echo 'admin-Tobari-2026' >"$dir/password" )
tobari-keyserver init --data-dir "$dir/keyserver" --organisation bench --admin admin --admin-password-file "$dir/password" \
    --recovery-key-out "$dir/recovery.key" --token-out "$dir/token" >"$dir/init.log"
port=$((20000 + RANDOM % 20000))
serve
tobarid enrol --server "https://127.0.0.1:$port" --ca-sha256 "$(grep -o '[0-9a-f]\{64\}' "$dir/init.log" | head -1)" \
    --token-file "$dir/token" --state-dir "$dir/daemon" --name bench >/dev/null
printf 'state_dir = "%s"\nsocket = "%s"\nlog = "warn"\n' "$dir/daemon" "$dir/control.sock" >"$dir/tobarid.toml"
tobarid run --config "$dir/tobarid.toml" >>"$dir/tobarid.log" 2>&1 &
daemon=$!
wait_for 60 tobari status
as_admin() { tobari login admin --password-stdin <"$dir/password" >/dev/null 2>&1; }
as_holder() { tobari login holder --password-stdin <"$dir/password" >/dev/null 2>&1; }
as_admin
tobari admin label add bench --level 100 >/dev/null
tobari admin rule add --label bench --group any --allow view,send,offline >/dev/null
tobari admin group add unit >/dev/null
tobari admin post add member --rank 10 >/dev/null
tobari admin person add holder --name Holder --membership unit:member --password-stdin <"$dir/password" >/dev/null
echo 'taken along' >"$dir/file"
tobari seal --label bench --owner-group unit "$dir/file" >/dev/null 2>&1
issue() { tobari --json admin lease issue --person holder --reason bench "$@" "$dir/file" | jq -r .id; }
pattern=$(issue --days 20)

echo "Expiry (with the programs of $bin)"
as_holder # remembered for logins without the key server
as_admin
ends=$(date -u -d '+20 seconds' +%Y-%m-%dT%H:%M:%SZ)
issue --until "$ends" --rights view >/dev/null
tobari admin lease revoke "$pattern" --reason bench >/dev/null
as_holder
tobari --json lease list >/dev/null
stop "$server"
opened=0
while tobari cat "$dir/file" >/dev/null 2>&1; do last=$(now); opened=$((opened + 1)); done
say 'openings before the end' "$opened"
say 'last opening that began, after the end (negative: before)' "$(awk -v a="$last" -v b="$(date -d "$ends" +%s)" 'BEGIN { printf "%.3f s", a - b }')"
[ "$opened" -gt 0 ]

python3 - "$dir/keyserver/tobari.db" "$pattern" "$leases" <<'END'
import json, secrets, sqlite3, sys

path, pattern, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = sqlite3.connect(path)
columns = [row[1] for row in store.execute("PRAGMA table_info(leases)")]
row = dict(zip(columns, store.execute("SELECT * FROM leases WHERE id = ?", (pattern,)).fetchone()))
row["state"], row["document"] = json.dumps("issued"), b"x" * 1500
terminals = [secrets.token_hex(16) for _ in range(10_000)]
people = [secrets.token_hex(16) for _ in range(30_000)]
marks = ", ".join("?" for _ in columns)


def rows():
    for number in range(count):
        own = {
            "id": secrets.token_hex(16),
            "terminal": terminals[number % len(terminals)],
            "person": people[number % len(people)],
            # Half of them have ended.
            "ends_at": row["ends_at"] if number % 2 else row["requested_at"] - number,
            "requested_at": row["requested_at"] - number,
        }
        yield [{**row, **own}[name] for name in columns]


with store:
    store.executemany(f"INSERT INTO leases ({', '.join(columns)}) VALUES ({marks})", rows())
    store.execute(
        "INSERT INTO lease_cases SELECT l.id, c.label, c.owner_group, l.person, l.terminal, c.second_factor, c.by_label, c.rights, "
        "c.starts_at, l.ends_at, l.ends_at, 0 FROM leases l, lease_cases c WHERE c.lease = ? "
        "AND NOT EXISTS (SELECT 1 FROM lease_cases o WHERE o.lease = l.id)",
        (pattern,),
    )
store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
END

echo "Key server with $leases leases more, half of which have ended (SQLite, $(du -m "$dir/keyserver/tobari.db" | cut -f1) MiB)"
start=$(now)
serve
say 'start until it listens' "$(since "$start")"
say 'memory after the start' "$(memory)"
wait_for 60 as_holder
say 'tobari lease list (with an exchange)' "$(timed tobari lease list)"
as_admin
issue --days 3 >"$dir/one"
say 'issue one' "$(timed issue --days 3)"
say 'admin lease list (the newest 1000)' "$(timed tobari admin lease list)"
say 'admin lease ledger (the newest 1000)' "$(timed tobari admin lease ledger)"
say 'revoke one' "$(timed tobari admin lease revoke "$(cat "$dir/one")" --reason bench)"
say 'memory after that' "$(memory)"
