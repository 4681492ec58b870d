#!/usr/bin/env bash
# The crash suite of sealing in place and of header changes (README.md): builds what it needs and runs cuts.py.
#
#   bash tests/cuts/run.sh             short: a few minutes, part of tests/run.sh
#   bash tests/cuts/run.sh --long      1,020 random power cuts, larger files, all errors everywhere, reordered writes: about an hour
#   bash tests/cuts/run.sh [--long] calls|power|replay|residue|rewrite|view ...
#
# Exit status 77: cannot run here (not root, no loop devices, no FUSE), and why on standard error. TOBARI_CUTS_PROFILE=dev builds without
# optimisation.
set -euo pipefail
cd "$(dirname "$0")/../.."

cannot() { echo "$*" >&2; exit 77; }
[ "$(id -u)" -eq 0 ] || cannot 'not root'
[ -e /dev/fuse ] || cannot 'no /dev/fuse'
losetup --find >/dev/null 2>&1 || cannot 'no loop devices'
for program in strace xfs_io mkfs.xfs xfs_repair mkfs.ext4 e2fsck filefrag eatmydata python3; do
    command -v "$program" >/dev/null || cannot "$program is not installed (strace xfsprogs e2fsprogs eatmydata python3)"
done
strace -o /dev/null -e inject=fsync:error=EIO true 2>/dev/null || cannot 'strace cannot trace here'

profile=${TOBARI_CUTS_PROFILE:-release}
target=$(cargo metadata --format-version 1 --no-deps --locked | jq -r .target_directory)
output=$target/$([ "$profile" = dev ] && echo debug || echo "$profile")
programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT
# Of the workspace, not of one package: its dependencies are those that tests/run.sh has built. The unsafe one first: what stays in
# the build's folder is the one that ships no switch.
build() { cargo build --quiet --locked --profile "$profile" --workspace "$@"; }
build --example seal-once --example view-mount --features tobari-daemon/test-only-unsafe
cp "$output/examples/seal-once" "$programs/unsafe"
cp "$output/examples/view-mount" "$programs/unsafe-view"
build --example seal-once --example view-mount
cp "$output/examples/seal-once" "$programs/seal"
cp "$output/examples/view-mount" "$programs/view"
build --bins

suite() { python3 -B tests/cuts/cuts.py --seal "$programs/seal" --unsafe "$programs/unsafe" --block-log "$output/block-log" \
    --view "$programs/view" --unsafe-view "$programs/unsafe-view" --binaries "$output" "$@"; }
if [ $# -gt 0 ]; then
    suite "$@"
else
    # One computes, the others wait for disks and for programs that start.
    suite calls >"$programs/calls" 2>&1 &
    others=0 calls=0
    suite power replay residue rewrite view || others=$?
    wait $! || calls=$?
    cat "$programs/calls"
    exit $((others | calls))
fi
