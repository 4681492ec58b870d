#!/usr/bin/env bash
# Measures the view beside ext4 and gocryptfs, all over ext4 images in memory, in one run, rounds interleaved. Prints a Markdown
# table; that of docs/performance.md was made by this script. Needs root, FUSE, loop devices, gocryptfs and about 5 GiB of memory.
#
#   bash tests/bench/view.sh                 all rows; or those whose names contain one of the arguments, such as: bash tests/bench/view.sh read
#   TOBARI_BENCH_ROUNDS=3                    rounds; each number is the median
#   TOBARI_BENCH_SIZE=1024                   MiB of the large file
#   TOBARI_BENCH_FILES=10000                 files of 4 KiB
#   TOBARI_VIEW_MOUNT=/path                  use this program instead of building it
set -euo pipefail
cd "$(dirname "$0")/../.."

[ "$(id -u)" -eq 0 ] || { echo 'not root' >&2; exit 77; }
for program in gocryptfs mkfs.ext4 tar python3 jq; do
    command -v "$program" >/dev/null || { echo "$program is not installed" >&2; exit 77; }
done
command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
mount=${TOBARI_VIEW_MOUNT:-}
if [ -z "$mount" ]; then
    cargo build --quiet --locked --release -p tobari-daemon --example view-mount
    mount=$(cargo metadata --format-version 1 --no-deps --locked | jq -r .target_directory)/release/examples/view-mount
fi
exec python3 -B tests/bench/view.py --mount "$mount" \
    --rounds "${TOBARI_BENCH_ROUNDS:-3}" --size "${TOBARI_BENCH_SIZE:-1024}" --files "${TOBARI_BENCH_FILES:-10000}" "$@"
