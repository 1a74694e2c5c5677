#!/bin/bash
# run.sh SUITE... [PYTEST ARGUMENTS]: runs suites (folders of tests/), tells how long each took and how many passed.
# A suite without tests, or with a skipped one, has failed: a missing engine must not look like success.
# LAMBDOCK_TEST_TALLY=FILE: also adds a line for each suite to FILE: name, passed, failed, seconds.
# LAMBDOCK_TEST_NAME=NAME: what the tally calls it, where one suite runs more than once.
set -euo pipefail
cd "$(dirname "$0")/.."

suites=() arguments=()
for argument in "$@"; do
    if [ ${#arguments[@]} -eq 0 ] && [[ $argument =~ ^[a-z0-9_]+$ ]]; then suites+=("$argument"); else arguments+=("$argument"); fi
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
tally=${LAMBDOCK_TEST_TALLY:-/dev/null}
status=0
count() { sed -E 's/\x1b\[[0-9;]*m//g' "$log" | tail -n 1 | grep -oE "[0-9]+ $1" | grep -oE '^[0-9]+' || echo 0; }

for suite in "${suites[@]}"; do
    printf '\n== %s\n' "${LAMBDOCK_TEST_NAME:-$suite}"
    began=$SECONDS code=0
    .venv/bin/python -m pytest --durations=12 --durations-min=3 "tests/$suite" "${arguments[@]}" 2>&1 | tee "$log" || code=$?
    passed=$(count passed) failed=$(($(count failed) + $(count 'errors?')))
    if [ "$(count skipped)" != 0 ]; then
        echo "tests/$suite skipped tests; they must run or fail" >&2
        code=1
    fi
    [ $code -ne 5 ] || echo "tests/$suite ran no test" >&2
    if [ $code -ne 0 ]; then
        status=1
        # Interrupted, or nothing ran: not a failed test, but no success.
        [ "$failed" -gt 0 ] || failed=1
    fi
    echo "${LAMBDOCK_TEST_NAME:-$suite} $passed $failed $((SECONDS - began))" >>"$tally"
done
exit $status
