#!/bin/sh
# The gate: the first program of a sandbox. It waits to be told what to become, and becomes it.
#
# It runs before anything of the function's, and nothing of the function's reaches it: it uses no variable of its
# environment, no search path and no working directory, and the sandbox's root is read-only. It has no secrets of its
# own. It reads its assignment once: a shell command whose every word the worker has quoted, in braces, so that half an
# assignment is none.
#
#     {
#     become '/var/task' 'NAME=value' '/var/runtime/bootstrap'
#     }
#
# The program gets exactly this environment, /dev/null as standard input, the log as standard output and error, and no
# other descriptor. Exit status 70 means that there was nothing to become; the reason goes to the standard error that
# the engine gave, or to the log once that is attached. Values of variables are never printed.
set -fu

directory=${1:-/run/lambdock} # another one for tests
assignment=$directory/assignment log=$directory/log
refused=70

# become DIRECTORY [NAME=VALUE]... PROGRAM [ARGUMENT]...
become() {
    [ -p "$log" ] || refuse "there is no FIFO $log"
    # In this order: the log takes over what follows, and nothing of the engine's is left.
    exec >"$log" 2>&1 3>&-
    console=2
    cd -- "$1" || refuse "can't enter $1"
    shift
    reason="can't become what was assigned"
    exec /usr/bin/env -i -- "$@"
}

refuse() {
    reason=$1
    exit "$refused"
}

# The engine should leave none open. A shell can name the first ten only; a further one is a reason to go no further.
close_inherited() {
    set +f
    for path in /proc/$$/fd/*; do
        descriptor=${path##*/}
        case $descriptor in
        [0-2]) ;;
        [3-9]) eval "exec $descriptor>&-" ;;
        # This shell's own, which ends with it: this script, and the listed directory, which is closed already.
        *) [ ! -e "$path" ] || [ "$path" -ef "$0" ] || refuse "descriptor $descriptor is open, and a shell can't close it" ;;
        esac
    done
    set -f
}

console=2 reason="this shell failed"
# Whatever ends this shell but becoming another program; what it can't parse ends it, too.
trap 'printf "gate: %s\n" "$reason" >&"$console"; exit "$refused"' EXIT
close_inherited
[ -p "$assignment" ] || refuse "there is no FIFO $assignment"
# The shell itself is silent meanwhile: it would quote what it does not understand, and that may be a secret.
exec </dev/null 3>&2 2>/dev/null
console=3 reason="the assignment is incomplete, or not a shell's"
. "$assignment"
refuse "the assignment assigns nothing"
