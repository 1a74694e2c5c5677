# Shared by the scripts here; sourced, never run.
# shellcheck shell=bash

say() { printf '%s\n' "$*" >&2; }

die() {
    printf '\nerror: %s\n' "$1" >&2
    shift
    if [ $# -gt 0 ]; then printf '       %s\n' "$@" >&2; fi
    exit 1
}

# Runs a command quietly; on failure shows the end of what it said.
quietly() {
    local log
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

has() { command -v "$1" >/dev/null 2>&1; }

can_apt() { [ "$(id -u)" = 0 ] && has apt-get; }

# apt_install PACKAGE...: installs what is missing of these. Waits for another apt instead of failing.
apt_install() {
    local package missing=()
    for package in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    local options=(-qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
    # A fresh machine has no package lists, an old one stale ones: try, then refresh and try again.
    quietly apt-get "${options[@]}" install -y --no-install-recommends "${missing[@]}" 2>/dev/null && return 0
    quietly apt-get "${options[@]}" update || return 1
    quietly apt-get "${options[@]}" install -y --no-install-recommends "${missing[@]}"
}
