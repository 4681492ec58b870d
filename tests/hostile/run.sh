#!/usr/bin/env bash
# A hostile user against the running sealer (docs/spec/sealing.md, "Against a hostile user"), with each source of events.
#
#   bash tests/hostile/run.sh            12,000 swaps with each, as in `cargo test`
#   bash tests/hostile/run.sh --long     1,000,000 swaps with each in memory, and 50,000 with each on ext4: most of an hour
#
# Exit status 77: cannot run here (not root), and why on standard error. TOBARI_HOSTILE_SWAPS is another number of swaps,
# TOBARI_HOSTILE_EVENTS=fanotify or inotify is one source alone, TOBARI_HOSTILE_PLACE another folder to work in;
# TOBARI_HOSTILE_PROFILE=dev builds without optimisation.
set -euo pipefail
cd "$(dirname "$0")/../.."

[ "$(id -u)" -eq 0 ] || { echo 'not root' >&2; exit 77; }
long=false
case ${1-} in
    '') ;;
    --long) long=true ;;
    *) echo "unknown argument: $1" >&2; exit 2 ;;
esac

run() {
    cargo test --locked --profile "${TOBARI_HOSTILE_PROFILE:-release}" -p tobari-daemon --lib -- --nocapture --test-threads=1 "$@"
}

if ! $long; then
    run watch::tests::hostile:: watch::tests::fair::
    exit
fi
TOBARI_HOSTILE_SWAPS=${TOBARI_HOSTILE_SWAPS:-1000000} run watch::tests::hostile:: watch::tests::fair::
[ -z "${TOBARI_HOSTILE_PLACE-}" ] || exit 0
# Where syncs take their time, and so each exchange.
if ! losetup --find >/dev/null 2>&1; then
    echo '!! SKIPPED: no loop devices: on ext4' >&2
    exit 0
fi
place=$(mktemp -d)
trap 'umount -l "$place/mount" 2>/dev/null || true; rm -rf "$place"' EXIT
mkdir "$place/mount"
truncate -s 1G "$place/image"
mkfs.ext4 -q -F "$place/image"
mount -o loop "$place/image" "$place/mount"
chmod 755 "$place" "$place/mount"
TOBARI_HOSTILE_PLACE=$place/mount TOBARI_HOSTILE_SWAPS=50000 run watch::tests::hostile::
