#!/usr/bin/env bash
# Measures the sealer and header changes on large trees, beside familiar tools, in one run. Needs root (leases on other people's
# files), jq, python3 and, for the comparison, gocryptfs. What docs/performance.md says was made by this script.
#
#   bash tests/bench/sealer.sh [all|sweep|latency|relabel|million]...
#   TOBARI_BENCH_DIR=/path        where the files are written (default: a folder under $TMPDIR)
#   TOBARI_BENCH_FILES=100000     files of 4 KiB for sweep and relabel
#   TOBARI_BENCH_MILLION=1000000  files of 64 bytes, 20 in each folder, for million (not part of all)
#   TOBARI_BIN_DIR=/path          use the programs there instead of building
set -euo pipefail
cd "$(dirname "$0")/../.."

files=${TOBARI_BENCH_FILES:-100000}
million=${TOBARI_BENCH_MILLION:-1000000}
wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(all)
wants() { [[ " ${wanted[*]} " == *" $1 "* ]] || { [ "$1" != million ] && [[ " ${wanted[*]} " == *' all '* ]]; }; }
command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
bin=${TOBARI_BIN_DIR:-}
if [ -z "$bin" ]; then
    cargo build --quiet --locked --release --bins
    bin=$(cargo metadata --format-version 1 --no-deps --locked | jq -r .target_directory)/release
fi
PATH=$bin:$PATH

dir=$(mktemp -d "${TOBARI_BENCH_DIR:-${TMPDIR:-/tmp}}/tobari-bench.XXXXXX")
export TOBARI_SOCKET=$dir/control.sock XDG_STATE_HOME=$dir/state
server='' daemon='' mounted=''
stop_daemon() { [ -z "$daemon" ] || { kill "$daemon" 2>/dev/null || true; wait "$daemon" 2>/dev/null || true; }; daemon=''; }
cleanup() {
    stop_daemon
    [ -z "$server" ] || { kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; }
    [ -z "$mounted" ] || fusermount -u "$mounted" 2>/dev/null || umount "$mounted"
    rm -rf "$dir"
}
trap cleanup EXIT

say() { printf '  %-62s %s\n' "$1" "$2"; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
per_second() { awk -v n="$1" -v t="$2" 'BEGIN { printf "%.0f", n / t }'; }
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.2f", b - a }'; }
wait_for() { local limit=$((SECONDS + $1)); shift; until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $limit ] || { echo "waited too long: $*" >&2; tail -n 5 "$dir"/*.log >&2; exit 1; }; sleep "${pause:-0.05}"; done; }
memory() { awk '/VmHWM/ { printf "%.0f MiB", $2 / 1024 }' "/proc/$daemon/status"; }
ticks() { awk '{ print $14 + $15 }' "/proc/$daemon/stat"; }

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
cat >"$dir/tobarid.toml" <<CONFIG
state_dir = "$dir/daemon"
socket = "$dir/control.sock"
log = "${TOBARI_BENCH_LOG:-warn}"
[seal]
${TOBARI_BENCH_SEAL:-}
CONFIG
start_daemon() {
    tobarid run --config "$dir/tobarid.toml" >>"$dir/tobarid.log" 2>&1 &
    daemon=$!
    wait_for 20 tobari status
}
start_daemon
tobari login admin --password-stdin <"$dir/password" >/dev/null
tobari admin label add bench --level 100 >/dev/null
tobari admin label add other --level 200 >/dev/null
for label in bench other; do
    tobari admin rule add --label $label --group any --allow view,relabel >/dev/null
done
# Rules apply to members of a group.
tobari admin group add unit >/dev/null
tobari admin post add member --rank 10 >/dev/null
tobari admin person add worker --membership unit:member --role key-custodian --password-stdin <"$dir/password" >/dev/null
login() { tobari login "${1:-admin}" --password-stdin <"$dir/password" >/dev/null; }
designate() { mkdir -p "$1"; tobari admin folder add "$1" --label bench >/dev/null; }
status() { tobari status --json | jq -r "[.folders[] | select(.folder.path == \"$1\")][0].$2"; }
sealed_is() { [ "$(status "$1" sealed)" -ge "$2" ]; }
# files directory bytes each-folder
make_tree() {
    python3 - "$@" <<'PY'
import os, sys
count, top, size, each = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
block = os.urandom(size)
for number in range(count):
    if number % each == 0:
        folder = f"{top}/{number // each // 100:03}/{number // each:05}"
        os.makedirs(folder)
    with open(f"{folder}/{number}", "wb") as file:
        file.write(number.to_bytes(8, "little") + block[8:])
PY
}

echo 'Machine'
say processor "$(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) cores"
say kernel "$(uname -sr)"
say 'file system' "$(df --output=fstype "$dir" | tail -1)"
say 'load before' "$(cut -d' ' -f1-3 /proc/loadavg)"

if wants sweep || wants relabel; then
    printf '\nSweep of %s files of 4 KiB\n' "$files"
    stop_daemon
    make_tree "$files" "$dir/plain" 4096 100
    sync
    if wants sweep; then
        begin=$(now)
        cp -a "$dir/plain" "$dir/copy"
        sync -f "$dir/copy"
        copied=$(since "$begin")
        say 'cp -a and sync, files/s' "$(per_second "$files" "$copied")"
        rm -rf "$dir/copy"
        if command -v gocryptfs >/dev/null && [ -e /dev/fuse ]; then
            mkdir "$dir/cipher" "$dir/mount"
            gocryptfs -q -init -passfile "$dir/password" "$dir/cipher" >/dev/null
            gocryptfs -q -passfile "$dir/password" "$dir/cipher" "$dir/mount"
            mounted=$dir/mount
            begin=$(now)
            cp -a "$dir/plain" "$dir/mount/copy"
            sync -f "$dir/cipher"
            mounted_time=$(since "$begin")
            say 'cp -a into gocryptfs and sync, files/s' "$(per_second "$files" "$mounted_time")"
            fusermount -u "$mounted" 2>/dev/null || umount "$mounted"
            mounted=''
            rm -rf "$dir/cipher"
        else
            say gocryptfs 'not installed: not compared'
        fi
    fi
    sync
    # A file that was written just now is left alone for a while.
    sleep 3
    start_daemon
    login
    begin=$(now)
    designate "$dir/plain"
    tobari admin label list >/dev/null
    # Asking takes processor time too.
    pause=0.25 wait_for 3600 sealed_is "$dir/plain" "$files"
    swept=$(since "$begin")
    say 'processor time of the daemon, ms for each file' "$(awk -v t="$(ticks)" -v n="$files" -v h="$(getconf CLK_TCK)" 'BEGIN { printf "%.3f", t / h / n * 1000 }')"
    say 'sweep that seals all of them, files/s' "$(per_second "$files" "$swept")"
    say 'peak memory of the daemon (goal: under 128 MiB)' "$(memory)"
    if wants sweep; then
        say 'sweep / cp -a (goal: 0.70)' "$(ratio "$copied" "$swept")"
        [ -z "${mounted_time:-}" ] || say 'sweep / cp -a into gocryptfs' "$(ratio "$mounted_time" "$swept")"
    fi
fi

if wants latency; then
    printf '\nFrom close to sealed\n'
    designate "$dir/new"
    watched() { [ "$(status "$dir/new" 'watched.Ok // "ok"')" != null ] && [ "$(status "$dir/new" swept_at)" != null ]; }
    wait_for 60 watched
    python3 - "$dir/new" <<'PY'
import os, sys, threading, time
top = sys.argv[1]
def sealed(path):
    # Only stat: opening it would be in the sealer's way.
    return os.stat(path).st_ino
def one(name):
    path = f"{top}/{name}"
    with open(path, "wb") as file:
        file.write(os.urandom(4096))
        inode = os.fstat(file.fileno()).st_ino
    begin = time.perf_counter()
    while os.stat(path).st_ino == inode:
        if time.perf_counter() - begin > 60:
            return 60.0
        time.sleep(0.0002)
    return time.perf_counter() - begin
def report(what, times):
    times.sort()
    print(f"  {what + ', median and p99':62} {times[len(times) // 2] * 1000:.1f} ms, {times[len(times) * 99 // 100] * 1000:.1f} ms")
report("idle (goal: median under 50 ms)", [one(f"idle{n}") for n in range(300)])
count = 20000
inodes = {}
begin = time.perf_counter()
for n in range(count):
    path = f"{top}/burst{n}"
    with open(path, "wb") as file:
        file.write(os.urandom(4096))
        inodes[path] = (os.fstat(file.fileno()).st_ino, time.perf_counter())
written = time.perf_counter() - begin
times = []
while inodes:
    for path, (inode, closed) in list(inodes.items()):
        if os.stat(path).st_ino != inode:
            times.append(time.perf_counter() - closed)
            del inodes[path]
    time.sleep(0.005)
print(f"  {'burst of 20,000 files: written in, all sealed after':62} {written:.2f} s, {time.perf_counter() - begin:.2f} s")
report("under the burst", times)
PY
    say 'peak memory of the daemon' "$(memory)"
fi

if wants relabel; then
    printf '\nHeaders of %s sealed files\n' "$files"
    login worker
    begin=$(now)
    tobari admin relabel "$dir/plain" --label other
    took=$(since "$begin")
    say 'relabel, files/s and ms for each' "$(per_second "$files" "$took"), $(awk -v n="$files" -v t="$took" 'BEGIN { printf "%.2f", t * 1000 / n }')"
    begin=$(now)
    tobari admin relabel "$dir/plain" --label other
    say 'the same again: nothing to do, files/s' "$(per_second "$files" "$(since "$begin")")"
    tobari admin label rotate other >/dev/null
    begin=$(now)
    tobari admin rewrap "$dir/plain"
    took=$(since "$begin")
    say 'rewrap, files/s and ms for each' "$(per_second "$files" "$took"), $(awk -v n="$files" -v t="$took" 'BEGIN { printf "%.2f", t * 1000 / n }')"
    head -c 1073741824 /dev/urandom >"$dir/large"
    tobari seal --label bench "$dir/large" 2>/dev/null
    sync
    for change in 'relabel --label other' rewrap; do
        [ "$change" != rewrap ] || tobari admin label rotate other >/dev/null
        begin=$(now)
        # shellcheck disable=SC2086 # an option and its value
        tobari admin $change "$dir/large" >/dev/null
        say "1 GiB: ${change%% *}, s" "$(since "$begin")"
    done
    begin=$(now)
    tobari admin reseal "$dir/large" >/dev/null
    say '1 GiB: reseal (new content key, read back), s' "$(since "$begin")"
    rm -f "$dir/large"
fi

if wants million; then
    printf '\n%s files of 64 bytes, 20 in each folder\n' "$million"
    stop_daemon
    rm -rf "$dir/plain"
    begin=$(now)
    make_tree "$million" "$dir/million" 64 20
    say 'writing them, s' "$(since "$begin")"
    start_daemon
    login
    begin=$(now)
    designate "$dir/million"
    limit=${TOBARI_BENCH_LIMIT:-3600}
    sleep 10
    # New files while the sweep runs.
    python3 - "$dir/million" <<'PY'
import os, sys, time
times = []
for n in range(50):
    path = f"{sys.argv[1]}/000/00000/new{n}"
    with open(path, "wb") as file:
        file.write(os.urandom(4096))
        inode = os.fstat(file.fileno()).st_ino
    start = time.perf_counter()
    while os.stat(path).st_ino == inode and time.perf_counter() - start < 120:
        time.sleep(0.0005)
    times.append(time.perf_counter() - start)
times.sort()
print(f"  {'a new file while the sweep runs, median and worst of 50':62} {times[25] * 1000:.0f} ms, {times[-1] * 1000:.0f} ms")
PY
    say 'load then' "$(cut -d' ' -f1-3 /proc/loadavg)"
    say 'progress then' "$(tobari status --json | jq -c '[.folders[] | select(.sweep)][0].sweep')"
    until sealed_is "$dir/million" "$million" || [ "$(since "$begin" | cut -d. -f1)" -ge "$limit" ]; do sleep 1; done
    took=$(since "$begin")
    count=$(status "$dir/million" sealed)
    say 'sealed, in s, files/s' "$count, $took, $(per_second "$count" "$took")"
    say 'peak memory of the daemon (goal: under 128 MiB)' "$(memory)"
    if [ "$count" -ge "$million" ]; then
        sleep 5
        before=$(ticks); sleep 30
        say 'idle, processor time over 30 s (goal: under 0.5 %)' "$(awk -v a="$before" -v b="$(ticks)" -v h="$(getconf CLK_TCK)" 'BEGIN { printf "%.2f %%", (b - a) / h / 30 * 100 }')"
        stop_daemon; start_daemon
        begin=$(now)
        finished() { [ "$(status "$dir/million" swept_at)" != null ]; }
        wait_for 3600 finished
        say 'sweep that finds all sealed, s' "$(since "$begin")"
        say 'peak memory of the daemon' "$(memory)"
    fi
fi
