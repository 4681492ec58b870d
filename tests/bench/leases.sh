#!/usr/bin/env bash
# Measures a key server that knows very many leases: how long it takes to start, what it holds in memory, how long lists, an exchange, a
# revocation and changes of the policy take; and how long after its end a lease still opens. Needs jq and python3; no root.
#
#   bash tests/bench/leases.sh
#   TOBARI_BENCH_DIR=/path         where the files are written (default: a folder under $TMPDIR; needs 5 GiB)
#   TOBARI_BENCH_LEASES=1000000    leases
#   TOBARI_BENCH_TAKEN=10000       of those that are out, how many one change of the policy takes
#   TOBARI_BIN_DIR=/path           use the programs there instead of building
set -euo pipefail
cd "$(dirname "$0")/../.."

leases=${TOBARI_BENCH_LEASES:-1000000}
taken=${TOBARI_BENCH_TAKEN:-10000}
few=100
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
for label in bench few many unused; do
    tobari admin label add "$label" --level 100 >/dev/null
    tobari admin rule add --label "$label" --group any --allow view,send,offline >/dev/null
done
tobari admin group add unit >/dev/null
tobari admin post add member --rank 10 >/dev/null
tobari admin person add holder --name Holder --membership unit:member --password-stdin <"$dir/password" >/dev/null
for label in few many bench; do
    echo 'taken along' >"$dir/$label"
    tobari seal --label "$label" --owner-group unit "$dir/$label" >/dev/null 2>&1
done
issue_of() { local file=$1; shift; tobari --json admin lease issue --person holder --reason bench "$@" "$dir/$file" | jq -r .id; }
issue() { issue_of bench "$@"; }
patterns=()
for label in few many bench; do patterns+=("$(issue_of "$label" --days 20 --rights view,send)"); done

echo "Expiry (with the programs of $bin)"
as_holder # remembered for logins without the key server
as_admin
ends=$(date -u -d '+20 seconds' +%Y-%m-%dT%H:%M:%SZ)
issue --until "$ends" --rights view >/dev/null
for pattern in "${patterns[@]}"; do tobari admin lease revoke "$pattern" --reason bench >/dev/null; done
as_holder
tobari --json lease list >/dev/null
stop "$server"
opened=0
while tobari cat "$dir/bench" >/dev/null 2>&1; do last=$(now); opened=$((opened + 1)); done
say 'openings before the end' "$opened"
say 'last opening that began, after the end (negative: before)' "$(awk -v a="$last" -v b="$(date -d "$ends" +%s)" 'BEGIN { printf "%.3f s", a - b }')"
[ "$opened" -gt 0 ]

python3 - "$dir/keyserver/tobari.db" "$leases" "$few" "$taken" "${patterns[@]}" <<'END'
import json, secrets, sqlite3, sys

path, count, few, taken = sys.argv[1], *map(int, sys.argv[2:5])
store = sqlite3.connect(path)
store.row_factory = sqlite3.Row


def insert(table, rows):
    names = [row[1] for row in store.execute(f"PRAGMA table_info({table})")]
    marks = ", ".join("?" for _ in names)
    store.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", ([row[name] for name in names] for row in rows))


def like(table, condition, value):
    return dict(store.execute(f"SELECT * FROM {table} WHERE {condition} = ?", (value,)).fetchone())


# People and terminals that exist, so that the policy gives them what they have. Nearly every lease is of a pair of its own.
holder = like("people", "login", "holder")
desk = like("terminals", "name", "bench")
terminals = [secrets.token_hex(16) for _ in range(1_000)]
people = [secrets.token_hex(16) for _ in range(3_001)]
patterns = [dict(like("leases", "id", id), state=json.dumps("issued"), document=b"x" * 1500) for id in sys.argv[5:8]]
cases = [like("lease_cases", "lease", id) for id in sys.argv[5:8]]


def kind(number):
    """Which pattern: half of all have ended, so twice as many rows as are to be out."""
    return 0 if number < 2 * few else 1 if number < 2 * (few + taken) else 2


def rows():
    for number in range(count):
        row = patterns[kind(number)]
        yield {
            **row,
            "id": f"{number:032x}",
            "terminal": terminals[number % len(terminals)],
            "person": people[number % len(people)],
            # Half of them have ended.
            "ends_at": row["ends_at"] if number % 2 else row["requested_at"] - number,
            "requested_at": row["requested_at"] - number,
        }


def lent():
    for number, row in enumerate(rows()):
        own = {"lease": row["id"], "lease_ends_at": row["ends_at"]}
        yield {**cases[kind(number)], **own, **{name: row[name] for name in ("person", "terminal", "ends_at")}}


with store:
    insert("people", ({**holder, "id": id, "login": id, "login_key": id} for id in people))
    insert("terminals", ({**desk, "id": id, "name": id, "fingerprint": secrets.token_hex(32)} for id in terminals))
    insert("leases", rows())
    insert("lease_cases", lent())
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

echo "Changes of the policy, with $((leases / 2)) leases out"
count() { python3 -c 'import sqlite3, sys; print(sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True).execute(sys.argv[2]).fetchone()[0])' "$dir/keyserver/tobari.db" "$1"; }
narrowed() { count 'SELECT COUNT(*) FROM lease_cases WHERE narrowed = 1'; }
revoked() { count 'SELECT COUNT(*) FROM lease_revocations'; }
rule() { tobari admin rule add --group any "$@"; }
before=$(revoked)
say 'a rule of a label of which none is out' "$(timed rule --label unused --deny send)"
say 'a rule of the label of nearly all, that takes nothing' "$(timed rule --label bench --deny print)"
[ "$(narrowed)" -eq 0 ]
say "a rule that narrows $few" "$(timed rule --label few --deny send)"
[ "$(narrowed)" -eq "$few" ]
say "a rule that takes $taken" "$(timed rule --label many --deny offline)"
# The server finishes what takes longer than its client waits.
took() { [ $(($(revoked) - before)) -eq "$taken" ]; }
wait_for 120 took
say 'memory after that' "$(memory)"
