#!/usr/bin/env bash
# The key server at ten times the load that it can carry, in an open loop: goodput beside the peak (goal: at least 90 %), and how
# long an administrator waits meanwhile. Client and server share the machine.
#
#   bash tests/bench/overload.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/../.."
target=$(cargo metadata --format-version 1 --no-deps --locked | jq -r .target_directory)
cargo build --quiet --locked --release --workspace --bins
ulimit -n 8192
TOBARI_BIN_DIR=$target/release "$target/release/grant-load" "${1:-20}" overload
