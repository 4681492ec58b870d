#!/usr/bin/env bash
# Audit appends per second: what the log takes, one record at a time and shared, on both stores.
#
#   bash tests/bench/audit.sh            all rows
#   TOBARI_BENCH_RECORDS=200000 …        more records (20,000)
#
# Needs a release build of the test server: it is made here. PostgreSQL's row is left out, loudly, where it is not installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
export TOBARI_BENCH_RECORDS="${TOBARI_BENCH_RECORDS:-20000}"
echo "records: $TOBARI_BENCH_RECORDS, $(nproc) CPUs, $(uname -sr)"
cargo test --release --locked -p tobari-keyserver --test server -- --ignored --nocapture --exact store::appends_per_second |
    grep -E '^(sqlite|postgres|!!|test result: F)' || {
    echo "the measurement failed" >&2
    exit 1
}
