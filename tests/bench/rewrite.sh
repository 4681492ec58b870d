#!/usr/bin/env bash
# Measures header changes: what a relabel and a rewrap of a tree, and of one large file, cost in time and in bytes written. Needs
# jq and python3; no root. What docs/performance.md says of them was made by this script.
#
#   bash tests/bench/rewrite.sh
#   TOBARI_BENCH_DIR=/path       where the files are written (default: a folder under $TMPDIR)
#   TOBARI_BENCH_FILES=100000    files of 4 KiB
#   TOBARI_BENCH_LARGE=1024      MiB of the large file
#   TOBARI_BIN_DIR=/path         use the programs there instead of building
set -euo pipefail
cd "$(dirname "$0")/../.."

files=${TOBARI_BENCH_FILES:-100000}
large=${TOBARI_BENCH_LARGE:-1024}
command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
bin=${TOBARI_BIN_DIR:-}
if [ -z "$bin" ]; then
    cargo build --quiet --locked --release --bins
    bin=$(cargo metadata --format-version 1 --no-deps --locked | jq -r .target_directory)/release
fi
PATH=$bin:$PATH

dir=$(mktemp -d "${TOBARI_BENCH_DIR:-${TMPDIR:-/tmp}}/tobari-bench.XXXXXX")
export TOBARI_SOCKET=$dir/control.sock XDG_STATE_HOME=$dir/state
server='' daemon=''
cleanup() {
    for one in "$daemon" "$server"; do
        [ -z "$one" ] || { kill "$one" 2>/dev/null || true; wait "$one" 2>/dev/null || true; }
    done
    rm -rf "$dir"
}
trap cleanup EXIT

say() { printf '  %-50s %s\n' "$1" "$2"; }
now() { date +%s.%N; }
wait_for() { local limit=$((SECONDS + $1)); shift; until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $limit ] || { echo "waited too long: $*" >&2; tail -n 5 "$dir"/*.log >&2; exit 1; }; sleep 0.05; done; }
# What the daemon, which alone writes files, has handed to write calls, and what of it went to a disk's cache.
io() { awk -v field="$1:" '$1 == field { print $2 }' "/proc/$daemon/io"; }

( umask 077; echo 'admin-Tobari-2026' >"$dir/password" )
tobari-keyserver init --data-dir "$dir/keyserver" --organisation bench --admin admin --admin-password-file "$dir/password" \
    --recovery-key-out "$dir/recovery.key" --token-out "$dir/token" >"$dir/init.log"
port=$((20000 + RANDOM % 20000))
tobari-keyserver serve --data-dir "$dir/keyserver" --listen "127.0.0.1:$port" >"$dir/keyserver.log" 2>&1 &
server=$!
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$port"); }
wait_for 20 listens
tobarid enrol --server "https://127.0.0.1:$port" --ca-sha256 "$(grep -o '[0-9a-f]\{64\}' "$dir/init.log" | head -1)" \
    --token-file "$dir/token" --state-dir "$dir/daemon" --name bench >/dev/null
printf 'state_dir = "%s"\nsocket = "%s"\nlog = "warn"\n' "$dir/daemon" "$dir/control.sock" >"$dir/tobarid.toml"
tobarid run --config "$dir/tobarid.toml" >>"$dir/tobarid.log" 2>&1 &
daemon=$!
wait_for 20 tobari status
tobari login admin --password-stdin <"$dir/password" >/dev/null
for label in bench other; do
    tobari admin label add $label --level 100 >/dev/null
    tobari admin rule add --label $label --group any --allow view,relabel >/dev/null
done
tobari admin group add unit >/dev/null
tobari admin post add member --rank 10 >/dev/null
tobari admin person add worker --membership unit:member --role key-custodian --password-stdin <"$dir/password" >/dev/null

echo 'Machine'
say processor "$(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) cores"
say kernel "$(uname -sr)"
say 'file system' "$(df --output=fstype "$dir" | tail -1)"
say 'load before' "$(cut -d' ' -f1-3 /proc/loadavg)"

python3 - "$files" "$dir/plain" <<'PY'
import os, sys
count, top = int(sys.argv[1]), sys.argv[2]
for number in range(count):
    folder = f"{top}/{number // 1000:04}"
    if number % 1000 == 0:
        os.makedirs(folder)
    with open(f"{folder}/{number}", "wb") as file:
        file.write(os.urandom(4096))
PY
tobari admin folder add "$dir/plain" --label bench >/dev/null
sealed() { [ "$(tobari status --json | jq '.folders[0].sealed')" -ge "$files" ]; }
wait_for 3600 sealed
tobari login worker --password-stdin <"$dir/password" >/dev/null
sync

# what path files command...: times it, and says what it wrote for each file
measure() {
    local what=$1 count=$2 begin took calls written
    shift 2
    calls=$(io wchar) written=$(io write_bytes) begin=$(now)
    "$@" >/dev/null
    took=$(awk -v a="$begin" -v b="$(now)" 'BEGIN { print b - a }')
    say "$what" "$(awk -v n="$count" -v t="$took" -v c="$(($(io wchar) - calls))" -v w="$(($(io write_bytes) - written))" \
        'BEGIN { printf "%.2f s, %.3f ms each; each %.0f bytes in write calls, %.0f to the disk", t, t * 1000 / n, c / n, w / n }')"
}
printf '\n%s files of 4 KiB\n' "$files"
measure relabel "$files" tobari admin relabel --label other "$dir/plain"
measure 'the same again: nothing to do' "$files" tobari admin relabel --label other "$dir/plain"
tobari admin label rotate other >/dev/null
measure rewrap "$files" tobari admin rewrap "$dir/plain"
tobari admin label rotate other >/dev/null
printf '\nA rewrap that is killed after three seconds\n'
( timeout --signal=KILL 3 tobari admin rewrap "$dir/plain" >/dev/null ) 2>/dev/null || true
sleep 1
say 'the same again' "$(tobari admin rewrap --json "$dir/plain" | jq -c .)"

printf '\nOne file of %s MiB, one of 4 KiB\n' "$large"
head -c $((large << 20)) /dev/urandom >"$dir/large"
head -c 4096 /dev/urandom >"$dir/small"
for file in large small; do
    tobari seal --label bench "$dir/$file" >/dev/null 2>&1
    sync
    measure "$file: relabel" 1 tobari admin relabel --label other "$dir/$file"
    tobari admin label rotate other >/dev/null
    measure "$file: rewrap" 1 tobari admin rewrap "$dir/$file"
done
measure 'large: reseal' 1 tobari admin reseal "$dir/large"
