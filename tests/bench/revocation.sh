#!/usr/bin/env bash
# Measures how long a revocation takes: from the answer to the administrator to the refused read on a file that is open, with
# 200 terminals that wait for changes (tests/src/bin/revocation-load.rs). Goal: the 99th percentile is below one second. Nothing
# else should run meanwhile. Root, FUSE, bubblewrap and python3 are needed for the open file.
#
#   bash tests/bench/revocation.sh [TERMINALS [ROUNDS]]
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH

cargo build --quiet --locked --release --workspace --bins
target=$(cargo metadata --format-version 1 --no-deps --locked | jq -r .target_directory)
echo "processor $(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) cores"
echo "kernel $(uname -sr)"
echo "load before $(cut -d' ' -f1-3 /proc/loadavg)"
TOBARI_BIN_DIR=$target/release "$target/release/revocation-load" "${1:-200}" "${2:-20}"
