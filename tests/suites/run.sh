#!/usr/bin/env bash
# Suites of others against the view (docs/view.md): pjdfstest, which ext4 passes as well, and fsx, with the same operations on ext4.
#
#   bash tests/suites/run.sh                 short: about a minute, part of tests/run.sh
#   bash tests/suites/run.sh --long          fsx with 100,000 operations and 20 seeds, and a soak with stress-ng: about an hour
#   bash tests/suites/run.sh [--long] posix|fsx|soak ...
#
# pjdfstest and fsx are installed from the registry of Rust packages into the build's folder, once. Exit status 77: cannot run here
# (not root, no FUSE, no loop devices, no registry), and why on standard error. TOBARI_SUITES_PROFILE=dev builds without optimisation.
set -euo pipefail
cd "$(dirname "$0")/../.."

cannot() { echo "$*" >&2; exit 77; }
[ "$(id -u)" -eq 0 ] || cannot 'not root'
[ -e /dev/fuse ] || cannot 'no /dev/fuse'
losetup --find >/dev/null 2>&1 || cannot 'no loop devices'
for program in mkfs.ext4 e2fsck strace python3 jq; do
    command -v "$program" >/dev/null || cannot "$program is not installed (e2fsprogs strace python3 jq)"
done

profile=${TOBARI_SUITES_PROFILE:-release}
target=$(cargo metadata --format-version 1 --no-deps --locked | jq -r .target_directory)
output=$target/$([ "$profile" = dev ] && echo debug || echo "$profile")
# Of the workspace, not of one package: its dependencies are those that tests/run.sh has built.
cargo build --quiet --locked --profile "$profile" --workspace --example view-mount

# Exact versions: the suite pins how many tests they have. Their own lock files, and no flags of ours.
suites=$target/suites
install() {
    [ -x "$suites/bin/$1" ] && [ "$(cat "$suites/$1.version" 2>/dev/null)" = "$2" ] && return
    local try
    for try in 1 2; do
        if RUSTFLAGS='' CARGO_TARGET_DIR=$suites/build cargo install --quiet --locked --debug --force --root "$suites" "$1@$2"; then
            echo "$2" >"$suites/$1.version"
            return
        fi
        echo "installing $1, try $try, failed" >&2
    done
    cannot "$1 $2 cannot be installed"
}
mkdir -p "$suites"
install pjdfstest 0.2.2
install fsx 0.3.2

exec python3 -B tests/suites/suites.py --mount "$output/examples/view-mount" --programs "$suites/bin" "$@"
