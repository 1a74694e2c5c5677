#!/bin/sh
# layer.sh: puts Pillow into layer/python, where Python functions look for packages of their layers (/opt/python).
# Wheels are chosen for the function's runtime and processor, whatever this machine has.
set -eu
cd "$(dirname "$0")"
version=3.11
platform=$(uname -m)   # of the machine that runs the functions: x86_64 or aarch64

rm -rf layer
if python3 -m pip --version >/dev/null 2>&1; then
    python3 -m pip install --quiet --target layer/python --only-binary :all: --python-version "$version" \
        --platform "manylinux_2_28_$platform" --platform "manylinux2014_$platform" -r requirements.txt
else
    uv pip install --quiet --target layer/python --only-binary :all: --python-version "$version" \
        --python-platform "$platform-manylinux_2_28" -r requirements.txt
fi
rm -rf layer/python/bin layer/python/.lock
