#!/bin/bash
# compose.sh ARGS...: docker compose for this installation, whichever compose works here.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/common.sh

if docker compose version >/dev/null 2>&1; then
    exec docker compose "$@"
elif docker-compose version >/dev/null 2>&1; then
    exec docker-compose "$@"
fi
die "no compose found: neither 'docker compose' nor 'docker-compose' works" "run: bash deploy/ensure-engine.sh compose"
