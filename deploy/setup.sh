#!/bin/bash
# setup.sh: the virtual environment .venv with everything pinned by hash, in seconds when it is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/common.sh

VENV=.venv
REQUIREMENTS=requirements/dev.txt
# What the environment was made from; differs when a pin or an entry point changes.
stamp=$VENV/.lambdock-setup
wanted=$(cat "$REQUIREMENTS" pyproject.toml | sha256sum | cut -d' ' -f1)

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    die "no Python 3.11 or newer found (python3 is $(python3 --version 2>&1 || true))" \
        "install one, or name it: make setup PYTHON=/path/to/python3.13"
}

make_venv() {
    local python
    python=$(find_python)
    "$python" -m venv --clear "$VENV" >/dev/null 2>&1 && return
    # Debian ships venv apart from python3.
    local version
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if can_apt; then apt_install "python$version-venv" || apt_install python3-venv || true; fi
    quietly "$python" -m venv --clear "$VENV" || die "$python can't make virtual environments" \
        "Debian, Ubuntu: apt-get install python3-venv"
}

install_requirements() {
    # uv takes seconds where pip takes a minute. It reads no pip.conf, so pip is the way out for hosts that need theirs.
    local uv=""
    if [ -x "$VENV/bin/uv" ]; then
        uv=$VENV/bin/uv
    elif has uv && uv --version >/dev/null 2>&1; then
        uv=uv
    elif pip_works; then
        # With its hash, as everything else: only uv's own entry of the file.
        awk '/^[^ #]/ {take = /^uv==/} take && !/^ *#/' "$REQUIREMENTS" >"$VENV/uv.txt"
        if quietly "$VENV/bin/python" -m pip install --quiet --require-hashes -r "$VENV/uv.txt"; then uv=$VENV/bin/uv; fi
    fi
    if [ -n "$uv" ] && quietly "$uv" pip install --python "$VENV/bin/python" --require-hashes -r "$REQUIREMENTS"; then
        quietly "$uv" pip install --python "$VENV/bin/python" --no-deps --no-build-isolation --editable .
        return
    fi
    say "uv could not install the requirements; trying pip"
    pip_works || quietly "$VENV/bin/python" -m ensurepip || die "pip is missing in $VENV; remove that folder and try again"
    quietly "$VENV/bin/python" -m pip install --quiet --require-hashes -r "$REQUIREMENTS" || return 1
    quietly "$VENV/bin/python" -m pip install --quiet --no-deps --no-build-isolation --editable .
}

pip_works() { "$VENV/bin/python" -m pip --version >/dev/null 2>&1; }

if [ -x "$VENV/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi

started=$SECONDS
say "setting up $VENV"
if ! "$VENV/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then make_venv; fi
install_requirements || die "the requirements could not be installed; the words above tell why" \
    "is a package index reachable from here? A broken environment: remove .venv and try again"
echo "$wanted" >"$stamp"
say "set up in $((SECONDS - started)) s"
