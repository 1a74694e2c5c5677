#!/bin/bash
# check.sh [PYTEST ARGUMENTS]: what must be right before every commit, in half a minute; no engine, no Redis.
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS

step() {
    local name=$1 log
    shift
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        printf '  ok   %s\n' "$name"
    else
        cat "$log"
        rm -f "$log"
        printf '  FAILED  %s:  %s\n' "$name" "$*" >&2
        exit 1
    fi
    rm -f "$log"
}

step format .venv/bin/ruff format --check .
step lint .venv/bin/ruff check .
step types .venv/bin/mypy
step imports .venv/bin/lint-imports
bash tests/run.sh unit "$@"
echo "checked in $((SECONDS - started)) s"
