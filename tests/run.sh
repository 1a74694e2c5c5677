#!/bin/bash
# run.sh SUITE... [PYTEST ARGUMENTS]: runs suites (folders of tests/), tells how long each took and how many passed.
# A suite without tests, or with a skipped one, has failed: a missing engine must not look like success.
set -euo pipefail
cd "$(dirname "$0")/.."

suites=() arguments=()
for argument in "$@"; do
    if [ ${#arguments[@]} -eq 0 ] && [[ $argument =~ ^[a-z0-9_]+$ ]]; then suites+=("$argument"); else arguments+=("$argument"); fi
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0 status=0 durations=""
count() { sed -E 's/\x1b\[[0-9;]*m//g' "$log" | tail -n 1 | grep -oE "[0-9]+ $1" | grep -oE '^[0-9]+' || echo 0; }

for suite in "${suites[@]}"; do
    printf '\n== %s\n' "$suite"
    began=$SECONDS code=0
    .venv/bin/python -m pytest "tests/$suite" "${arguments[@]}" 2>&1 | tee "$log" || code=$?
    durations+="  $suite $((SECONDS - began)) s;"
    passed=$((passed + $(count passed)))
    failed=$((failed + $(count failed) + $(count 'errors?')))
    if [ "$(count skipped)" != 0 ]; then
        echo "tests/$suite skipped tests; they must run or fail" >&2
        code=1
    fi
    if [ $code -ne 0 ]; then
        [ $code -ne 5 ] || echo "tests/$suite ran no test" >&2
        status=1
        [ "$failed" -gt 0 ] || failed=1
    fi
done

if [ ${#suites[@]} -gt 1 ]; then
    printf '\n%s\n' "took:$durations"
    printf 'all: %s passed, %s failed\n' "$passed" "$failed"
fi
exit $status
