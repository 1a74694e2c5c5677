#!/bin/bash
# make-base.sh SUITE TAG: make a small Debian image with python3, without an image registry.
#
# Idempotent: does nothing when TAG exists. Several suites may be made at the same time. It needs root (or an engine
# that this user may use and mmdebstrap's user namespaces), the docker command, mmdebstrap and a Debian mirror.
set -euo pipefail

if [ $# -ne 2 ]; then
    echo "usage: $0 SUITE TAG      for example: $0 trixie lambdock/base-trixie:1" >&2
    exit 64
fi
suite=$1 tag=$2

command -v docker >/dev/null || {
    echo "make-base.sh: the 'docker' command is not on PATH; install the Docker client (Debian: apt-get install docker.io)" >&2
    exit 69
}
if docker image inspect "$tag" >/dev/null 2>&1; then
    echo "base $tag exists"
    exit 0
fi

install_mmdebstrap() {
    # One at a time: apt takes its locks without waiting. The lock is on this file, so nothing is left behind.
    exec 9<"$0"
    flock 9
    if ! command -v mmdebstrap >/dev/null; then
        echo "base $tag: installing mmdebstrap"
        apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
    fi
    exec 9<&-
}

if ! command -v mmdebstrap >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "make-base.sh: mmdebstrap is not installed, and it can't be installed here (it needs root and apt-get)." >&2
        echo "Install it (Debian, Ubuntu: apt-get install mmdebstrap; Fedora: dnf install mmdebstrap), make an image" >&2
        echo "registry reachable, or name an image of your own in LAMBDOCK_RUNTIME_IMAGES." >&2
        exit 69
    fi
    install_mmdebstrap || {
        echo "make-base.sh: apt-get could not install mmdebstrap; install it by hand and try again." >&2
        exit 69
    }
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
started=$SECONDS
echo "base $tag: installing Debian $suite with python3 (a minute or two)"
# No SUITE-specific mirror: mmdebstrap's default has the updates and security suites too. The apt variant keeps apt-get.
# Tagged only when all of it is there: an import of half a system succeeds too.
image=
if ! image=$(mmdebstrap --quiet --variant=apt --include=ca-certificates,python3,tzdata \
    --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' \
    --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/lintian/*' \
    "$suite" - 2>"$log" |
    docker import \
        --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8' \
        --change "LABEL lambdock.base=$suite" \
        -); then
    [ -z "$image" ] || docker image rm "$image" >/dev/null
    tail -n 15 "$log" >&2
    echo "make-base.sh: Debian $suite could not be installed. Is a Debian mirror reachable from here? Otherwise make an" >&2
    echo "image registry reachable, or name an image of your own in LAMBDOCK_RUNTIME_IMAGES." >&2
    exit 70
fi
docker tag "$image" "$tag"
echo "base $tag: made in $((SECONDS - started)) s"
