#!/usr/bin/env bash
# Runs tests by `cargo test`. What fails beside other tests is run once more, alone, and named at the end: a fault fails again, a
# test that a busy machine was too slow for does not. A test program that ends without a result of its own is a failure that
# nothing mends: which of its tests were run nobody knows. Part of tests/run.sh.
#
#   bash tests/tested.sh LOG cargo test [OPTION...]
set -euo pipefail
log=$1; shift
fail() { printf 'tests: %s\n' "$*" >&2; exit 1; }

# The test programs in the log that said no result.
without_result() {
    awk '/^ +(Running|Doc-tests) / { if (name != "" && !ended) print name; name = $0; ended = 0 }
        /^test result: / { ended = 1 }
        END { if (name != "" && !ended) print name }' "$1"
}
# The number before a word, over all results in the log.
total() { sed -n "s/^test result: .* \([0-9]*\) $2;.*/\1/p" "$1" | awk '{ sum += $1 } END { print sum + 0 }'; }

export CARGO_TERM_COLOR=never
status=0
"$@" --no-fail-fast 2>&1 | tee "$log" || status=$?
aborted=$(without_result "$log")
[ -z "$aborted" ] || fail "ended without a result:"$'\n'"$aborted"
[ $status -ne 0 ] || exit 0

mapfile -t lines < <(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log")
[ "${#lines[@]}" -gt 0 ] || fail 'failed, and no test says so'
[ "${#lines[@]}" -eq "$(total "$log" failed)" ] || fail "$(total "$log" failed) failed, and ${#lines[@]} have a name"
mapfile -t failed < <(printf '%s\n' "${lines[@]}" | sort -u)
again=$log.again
"$@" --no-fail-fast -- --test-threads=1 --exact "${failed[@]}" 2>&1 | tee "$again"
aborted=$(without_result "$again")
[ -z "$aborted" ] || fail "ended without a result:"$'\n'"$aborted"
# A name that several programs have is run in each of them.
[ "$(total "$again" passed)" -ge "${#lines[@]}" ] || fail "of ${#lines[@]} that failed $(total "$again" passed) passed alone"
printf '!! FAILED beside others, passed alone: %s\n' "${failed[*]}" >&2
