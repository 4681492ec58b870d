#!/usr/bin/env bash
# A hostile user against the running sealer (docs/spec/sealing.md, "Against a hostile user").
#
#   bash tests/hostile/run.sh            12,000 swaps, as in `cargo test`
#   bash tests/hostile/run.sh --long     1,000,000 swaps: several minutes
#
# Exit status 77: cannot run here (not root), and why on standard error. TOBARI_HOSTILE_SWAPS is another number of swaps;
# TOBARI_HOSTILE_PROFILE=dev builds without optimisation.
set -euo pipefail
cd "$(dirname "$0")/../.."

[ "$(id -u)" -eq 0 ] || { echo 'not root' >&2; exit 77; }
case ${1-} in
    '') ;;
    --long) export TOBARI_HOSTILE_SWAPS=${TOBARI_HOSTILE_SWAPS:-1000000} ;;
    *) echo "unknown argument: $1" >&2; exit 2 ;;
esac

cargo test --locked --profile "${TOBARI_HOSTILE_PROFILE:-release}" -p tobari-daemon --lib -- --nocapture --test-threads=1 \
    watch::tests::hostile:: watch::tests::fair::
