#!/bin/bash
# all.sh: every suite, on a fresh machine too. Runtime images are made in the background while the unit tests run.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .lambdock
log=.lambdock/test-images.log
started=$SECONDS
took() { printf '  [%3d s] %s\n' $((SECONDS - started)) "$1"; }

bash deploy/setup.sh
took "set up"
bash deploy/ensure-engine.sh redis sandbox images
took "engine, redis and tools are there"

.venv/bin/python -m worker.images build python3.11 python3.13 --state-dir .lambdock/test-images >"$log" 2>&1 &
images=$!
# Also when a check fails: nothing of ours goes on behind the prompt.
trap 'kill "$images" 2>/dev/null || true' EXIT

bash tests/check.sh
took "checked"

if ! wait "$images"; then
    tail -n 30 "$log" >&2
    echo "error: the runtime images that the tests need could not be made; all of it: $log" >&2
    exit 1
fi
trap - EXIT
took "runtime images are there"

bash tests/run.sh integration conformance chaos
