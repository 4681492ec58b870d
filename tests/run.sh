#!/usr/bin/env bash
# All tests: style, lints, documents, unit and property tests, scenarios with the real programs, the independent
# decoder, the quick start. Installs what is missing when it may. What cannot run here is said loudly and counted.
#
#   bash tests/run.sh
set -euo pipefail
cd "$(dirname "$0")/.."
export LANG=${LANG:-C.UTF-8} # names of files are Japanese

skipped=0
step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
skip() { skipped=$((skipped + 1)); printf '!! SKIPPED: %s\n' "$*" >&2; }

step 'What is missing'
wanted=()
need() { command -v "$1" >/dev/null || wanted+=("$2"); } # program package
need cc 'gcc libc6-dev'
need 7z p7zip-full
need bsdtar libarchive-tools
need setfacl acl
need setfattr attr
need jq jq
need oathtool oathtool
need strace strace
need xfs_io xfsprogs
need mkfs.ext4 e2fsprogs
need eatmydata eatmydata
need xxd xxd
need openssl openssl
need shellcheck shellcheck
need vim vim
need rsync rsync
need sqlite3 sqlite3
# Its programs lie outside of PATH.
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || wanted+=(postgresql)
need smbd samba
need smbclient smbclient
need soffice 'libreoffice-writer-nogui libreoffice-calc-nogui fonts-vlgothic'
need pdftoppm poppler-utils
need python3 'python3 python3-venv'
/usr/bin/python3 -c 'import uno' 2>/dev/null || wanted+=(python3-uno)
need mkfs.btrfs btrfs-progs
need setquota quota
need faketime faketime
need bwrap bubblewrap
need notify-send libnotify-bin
need dbus-daemon dbus-daemon
/usr/bin/python3 -c 'import dbus, gi' 2>/dev/null || wanted+=('python3-dbus python3-gi')
if [ ${#wanted[@]} -gt 0 ]; then
    sudo=''
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    if command -v apt-get >/dev/null && { [ -z "$sudo" ] || command -v sudo >/dev/null; }; then
        echo "installing: ${wanted[*]}"
        $sudo apt-get -o Acquire::Retries=3 update -qq
        # shellcheck disable=SC2068 # an entry may name several packages
        DEBIAN_FRONTEND=noninteractive $sudo apt-get -o Acquire::Retries=3 install -y -qq --no-install-recommends ${wanted[@]} >/dev/null
    else
        echo "please install: ${wanted[*]}" >&2
        exit 1
    fi
fi
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then PATH=$HOME/.cargo/bin:$PATH; fi
command -v cargo >/dev/null || { echo 'no Rust toolchain: install Rust 1.95 or newer (https://rustup.rs), then run this again' >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || skip 'not root: tests with several users, mounts and ownership'

if [ "${CI:-}" = true ]; then
    for tool in cargo-deny cargo-fuzz; do
        command -v "$tool" >/dev/null || cargo install --quiet --locked --debug "$tool"
    done
fi

target=$(cargo metadata --format-version 1 --no-deps --locked | jq -r .target_directory)

step 'Style'
cargo fmt --all --check
shellcheck deploy/*.sh tests/*.sh tests/bench/*.sh tests/cuts/*.sh tests/hostile/*.sh tests/suites/*.sh .ci/run

step 'Lints'
cargo clippy --workspace --all-targets --locked --release -- -D warnings

step 'Documents of the code'
RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked --release --quiet

step 'Independent decoder, client of shares (Python)'
environment() { # requirements name
    local venv=$target/$2-venv
    if [ ! -x "$venv/bin/python" ] || ! cmp -s "$1" "$venv/requirements.txt"; then
        python3 -m venv --clear "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$1"
        cp "$1" "$venv/requirements.txt"
    fi
}
environment tests/oracle/requirements.txt oracle
export TOBARI_ORACLE_PYTHON=$target/oracle-venv/bin/python
environment tests/programs/requirements.txt smb
export TOBARI_SMB_PYTHON=$target/smb-venv/bin/python

step 'Programs and tests'
# One build of everything, so that programs and tests share their dependencies.
cargo build --workspace --all-targets --locked --release
# Whatever fails beside other tests is run once more, alone, and named at the end: a fault fails again, a test that a busy
# machine was too slow for does not.
log=$target/tests.log
bash tests/tested.sh "$log" cargo test --workspace --locked --release
# What tests skip they say past the capture of their output.
skipped=$((skipped + $(grep -c '!! SKIPPED: ' "$log" || true)))

step 'TPM (in software)'
# Not among what is needed: everything else runs without it.
if ! { command -v swtpm && pkg-config --exists tss2-esys; } >/dev/null 2>&1 && command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 install -y -qq --no-install-recommends \
        swtpm libtss2-dev pkg-config >/dev/null || true
fi
status=0
bash tests/tpm.sh || status=$?
case $status in
    0) cargo clippy -p tobari-daemon --features tpm --locked --release -- -D warnings ;;
    77) skip 'keys and counters in a TPM' ;;
    *) exit "$status" ;;
esac

step 'Over quota'
status=0
bash tests/with-quotas.sh || status=$?
case $status in
    0) ;;
    77) skip 'a file that is over its owner'"'"'s quota' ;;
    *) exit "$status" ;;
esac

step 'Crash suite of sealing (short)'
status=0
bash tests/cuts/run.sh || status=$?
case $status in
    0) ;;
    77) skip 'the crash suite needs root, loop devices, FUSE and tracing' ;;
    *) exit "$status" ;;
esac

step 'Suites of others against the view (short)'
status=0
bash tests/suites/run.sh || status=$?
case $status in
    0) ;;
    77) skip 'the suites against the view need root, FUSE, loop devices and the registry' ;;
    *) exit "$status" ;;
esac

step 'Dependencies: advisories and licences'
if command -v cargo-deny >/dev/null; then
    cargo fetch --locked --quiet # also what only other systems need
    cargo deny --offline check licenses bans sources
    if [ -d "${CARGO_HOME:-$HOME/.cargo}/advisory-db" ] || [ -d "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs" ]; then
        cargo deny --offline check advisories
    else
        skip 'no advisory database on this machine (cargo deny fetch)'
    fi
else
    skip 'cargo-deny is not installed (cargo install cargo-deny)'
fi

step 'Fuzz targets'
if command -v cargo-fuzz >/dev/null; then
    for name in header policy body; do
        (cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run "$name" --target-dir "$target/fuzz" -- -max_total_time=20 -print_final_stats=0)
    done
else
    skip 'cargo-fuzz is not installed (cargo install cargo-fuzz); the same properties ran above as proptest'
fi

step 'Quick start'
bash deploy/quickstart.sh --bin-dir "$target/release"

step 'Nothing left behind'
# What was told to end may need its time for that.
limit=$((SECONDS + 60))
while left=$(pgrep -fa "$target/release/tobari"); do
    [ $SECONDS -lt $limit ] || { printf 'processes left running:\n%s\n' "$left" >&2; exit 1; }
    sleep 0.5
done

printf '\nAll tests passed; %s skipped (see !! above).\n' "$skipped"
