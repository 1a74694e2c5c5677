#!/bin/bash
# all.sh: the suites of `make test`, on a fresh machine too. Runtime images are made while the unit tests run.
# Not e2e: it builds the platform's images and starts them again and again, which takes its own minutes (`make e2e`).
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .lambdock
log=.lambdock/test-images.log
export LAMBDOCK_TEST_TALLY=$PWD/.lambdock/test-tally
: >"$LAMBDOCK_TEST_TALLY"
images=

took() { printf '  [%3d s] %s\n' "$SECONDS" "$1"; }

# The last line, whatever happened before.
finish() {
    local code=$?
    # Nothing of ours goes on behind the prompt.
    [ -z "$images" ] || kill -- "-$images" 2>/dev/null || true
    printf '\n'
    awk '{printf "  %-12s %4d passed %4d failed %5d s\n", $1, $2, $3, $4; passed += $2; failed += $3}
         END {printf "all: %d passed, %d failed", passed, failed}' "$LAMBDOCK_TEST_TALLY"
    printf ', in %d s%s\n' "$SECONDS" "$([ $code -eq 0 ] || echo "; make test has FAILED")"
}
trap finish EXIT

bash deploy/setup.sh
took "set up"
bash deploy/ensure-engine.sh redis sandbox images registry postgres busybox
took "engine, servers and tools are there"

# A process group of its own can be ended with all that it calls.
set -m
.venv/bin/python -m worker.images build python3.11 python3.13 nodejs20.x nodejs22.x --state-dir .lambdock/test-images >"$log" 2>&1 &
images=$!
set +m

bash tests/check.sh
took "checked"

if ! wait "$images"; then
    images=
    tail -n 30 "$log" >&2
    echo "error: the runtime images that the tests need could not be made; all of it: $log" >&2
    exit 1
fi
images=
took "runtime images are there"

# These wait more than they compute; together they take as long as the longest. Chaos measures times, so it is alone.
status=0
beside_log=.lambdock/test-beside.log
beside() {
    local status=0
    bash tests/run.sh integration || status=1
    # Again, as an installation of several machines has it: what controllers and workers could disagree about.
    LAMBDOCK_TEST_NAME=postgres LAMBDOCK_TEST_DATABASE=postgres LAMBDOCK_TEST_CONTROLLERS=2 LAMBDOCK_TEST_WORKERS=2 \
        bash tests/run.sh conformance -k "test_functions_api or test_concurrency or test_layers" || status=1
    return $status
}
beside >"$beside_log" 2>&1 &
beside=$!
bash tests/run.sh conformance || status=1
wait "$beside" || status=1
cat "$beside_log"
bash tests/run.sh chaos || status=1
exit $status
