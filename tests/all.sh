#!/bin/bash
# all.sh: every suite, on a fresh machine too. Images are made in the background while the unit tests run.
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
    [ -z "$images" ] || kill "$images" 2>/dev/null || true
    printf '\n'
    awk '{printf "  %-12s %4d passed %4d failed %5d s\n", $1, $2, $3, $4; passed += $2; failed += $3}
         END {printf "all: %d passed, %d failed", passed, failed}' "$LAMBDOCK_TEST_TALLY"
    printf ', in %d s%s\n' "$SECONDS" "$([ $code -eq 0 ] || echo "; make test has FAILED")"
}
trap finish EXIT

bash deploy/setup.sh
took "set up"
bash deploy/ensure-engine.sh redis sandbox images compose
took "engine, redis and tools are there"

# Under a tag and with settings of their own: a platform that runs from this folder is none of our business.
LAMBDOCK_VERSION=test LAMBDOCK_ENV_FILE=$PWD/.lambdock/test-env LAMBDOCK_UP_RUNTIMES="python3.11 python3.13" \
    .venv/bin/python -m deploy.images_ahead >"$log" 2>&1 &
images=$!

bash tests/check.sh
took "checked"

if ! wait "$images"; then
    images=
    tail -n 30 "$log" >&2
    echo "error: the images that the tests need could not be made; all of it: $log" >&2
    exit 1
fi
images=
took "images are there"

bash tests/run.sh integration conformance chaos e2e
