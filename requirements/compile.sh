#!/bin/bash
# Compiles the pinned requirements, with hashes, for every Python from 3.11 and every platform. dev.txt leads: the images
# and the tests run the same versions. `compile.sh --upgrade` takes newer ones.
set -euo pipefail
cd "$(dirname "$0")/.."

uv=.venv/bin/uv
[ -x $uv ] || uv=uv

compile() {
    local name=$1
    shift
    # Neither addresses nor local paths: the files are the same wherever they are compiled.
    $uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --no-emit-index-url --no-emit-find-links "$@" --output-file "requirements/$name.txt" >/dev/null
}

compile dev pyproject.toml requirements/tools.in --extra serve --group dev "$@"
compile controller pyproject.toml --extra controller --constraint requirements/dev.txt
compile worker pyproject.toml --extra worker --constraint requirements/dev.txt
compile all pyproject.toml --extra serve --constraint requirements/dev.txt
if grep -nE '://|--find-links|--index' requirements/*.txt; then
    echo "requirements must not hold addresses" >&2
    exit 1
fi
