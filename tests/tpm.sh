#!/usr/bin/env bash
# A terminal whose keys are sealed by a TPM, here one in software (swtpm): it enrols, says so, starts again, and does not start with
# another TPM; then the calls themselves (tpm/tests). Part of tests/run.sh.
#
#   bash tests/tpm.sh
#
# Exit status 77: cannot run here, and why on standard error.
set -euo pipefail
cd "$(dirname "$0")/.."

cannot() { echo "$*" >&2; exit 77; }
for program in swtpm pkg-config jq; do
    command -v "$program" >/dev/null || cannot "$program is not installed (swtpm pkg-config jq)"
done
pkg-config --exists tss2-esys || cannot 'the TPM libraries are not installed (libtss2-dev)'
export TSS2_LOG=all+none # they print what went wrong
cargo test -p tobari-tpm --features device --locked --release

# With everything else as it was built, so that nothing else is built again; and then what belongs in the build's folder.
target=$(cargo metadata --format-version 1 --no-deps --locked | jq -r .target_directory)/release
work=$(mktemp -d)
pids=()
stop() {
    status=$?
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    [ $status -eq 0 ] || tail -n 5 "$work"/*.log >&2 || true
    rm -rf "$work"
}
trap stop EXIT
mkdir "$work/bin"
cargo build --quiet --workspace --bins --features tobari-daemon/tpm --locked --release
cp "$target"/{tobari,tobarid,tobari-keyserver} "$work/bin"
cargo build --quiet --workspace --bins --locked --release
PATH=$work/bin:$PATH

fail() { echo "tpm: $*" >&2; exit 1; }
wait_for() { # what command...
    local what=$1 limit=$((SECONDS + 120)) pid; shift
    until "$@" >/dev/null 2>&1; do
        # Who has ended, as when somebody else came first on a port, is not waited for.
        for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || fail "waited for $what, but process $pid has ended"; done
        [ $SECONDS -lt $limit ] || fail "waited too long for $what"
        sleep 0.1
    done
}
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1"); }
# A port below those that the kernel gives to clients (from 32768), any of which may come first.
draw() { echo $((20000 + RANDOM % 12000)); }
# A TPM with its state in a folder; its port is in $tpm_port.
tpm() { # folder
    local pid
    for _ in $(seq 50); do
        tpm_port=$(draw)
        if listens "$tpm_port" 2>/dev/null || listens $((tpm_port + 1)) 2>/dev/null; then continue; fi
        mkdir -p "$1"
        swtpm socket --tpm2 --flags not-need-init,startup-clear --tpmstate "dir=$1" \
            --server "type=tcp,bindaddr=127.0.0.1,port=$tpm_port" \
            --ctrl "type=tcp,bindaddr=127.0.0.1,port=$((tpm_port + 1))" >>"$work/swtpm.log" 2>&1 &
        pid=$!
        for _ in $(seq 300); do
            if ! kill -0 "$pid" 2>/dev/null; then break; fi
            if listens $((tpm_port + 1)) 2>/dev/null; then pids+=("$pid"); return; fi
            sleep 0.1
        done
    done
    fail 'no TPM in software starts'
}

umask 077
printf 'admin-Tobari-2026' >"$work/password"
tobari-keyserver init --data-dir "$work/keyserver" --organisation 'みほん市' --admin admin --admin-password-file "$work/password" \
    --recovery-key-out "$work/recovery.key" --token-out "$work/token" >"$work/init.log"
port=$(draw)
while listens "$port" 2>/dev/null; do port=$(draw); done
tobari-keyserver serve --data-dir "$work/keyserver" --listen "127.0.0.1:$port" >"$work/keyserver.log" 2>&1 &
pids+=($!)
wait_for 'the key server' listens "$port"

tpm "$work/tpm"
first=$tpm_port
export TCTI=swtpm:host=127.0.0.1,port=$first TOBARI_SOCKET=$work/control.sock TOBARI_LANG=en
tobarid enrol --server "https://127.0.0.1:$port" --token-file "$work/token" --state-dir "$work/daemon" --name tpm \
    --ca-sha256 "$(grep -o '[0-9a-f]\{64\}' "$work/init.log" | head -n 1)" >/dev/null
jq -e '.kind == "tpm"' "$work/daemon/enrolment/protection.json" >/dev/null || fail 'the keys are not sealed by the TPM'
if grep -rlq 'PRIVATE KEY' "$work/daemon"; then fail 'a private key lies in the state folder as it is'; fi
printf 'state_dir = "%s"\nsocket = "%s"\nroles = ["view"]\n[session]\nfirst_uid = %s\nuids = 64\n' "$work/daemon" "$TOBARI_SOCKET" \
    $((2000000000 + RANDOM % 30000 * 64)) >"$work/tobarid.toml"
run() {
    tobarid run --config "$work/tobarid.toml" >>"$work/tobarid.log" 2>&1 &
    daemon=$!
}
for start in first second; do
    run
    pids+=("$daemon")
    wait_for "the $start start" tobari status
    tobari login admin --password-stdin <"$work/password" >/dev/null 2>&1
    [ "$(tobari --json admin terminal show tpm | jq -r .protection)" = tpm ] || fail "the terminal does not claim its TPM ($start)"
    kill "$daemon"
    wait "$daemon" || true
    unset 'pids[-1]'
done

tpm "$work/other"
if TCTI=swtpm:host=127.0.0.1,port=$tpm_port timeout 300 tobarid run --config "$work/tobarid.toml" >"$work/refused.log" 2>&1; then
    fail 'it starts with another TPM'
fi
grep -q 'TPM' "$work/refused.log" || fail "what it says of another TPM: $(cat "$work/refused.log")"
echo 'a terminal with a TPM enrols, starts again, and does not start with another'
