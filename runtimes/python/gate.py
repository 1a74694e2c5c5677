"""The gate: the first program of a sandbox. It waits to be told what to become, and becomes it.

It runs before anything of the function's, and nothing of the function's can reach into it: `-I -S` switches off the
variables, site packages and working directory of Python, and the sandbox's root is read-only. It has no secrets of
its own, and reads its assignment once:

    {"argv": ["/var/runtime/bootstrap"], "env": {"NAME": "value"}, "cwd": "/var/task"}

The program gets exactly this environment, /dev/null as standard input, the log as standard output and error, no other
descriptor, and default signal handling. Exit status 70 means that there was no such program: the reason goes to the
standard error that the engine gave, and to the log once that is open. Values of variables are never printed.

The modules are the interpreter's built-in ones: `os`, `json` and `signal` would double the time to reach the gate.
"""

import _signal  # type: ignore[import-not-found, unused-ignore]
import posix
import sys
from _json import make_scanner

DIRECTORY = "/run/lambdock"
REFUSED = 70
#: The kernel accepts about 2 MB of arguments and environment; anything larger is not an assignment.
LIMIT_BYTES = 8 << 20


class Refused(Exception):
    """Nothing to become; says why."""


def unique(pairs):
    """Make a dict of an object's members; json's default would silently keep the last of two equal names."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Refused("the assignment names a member twice")
    return members


class Rules:
    """How the scanner reads JSON."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(unique)
    array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


def main():
    """Wait, and become the assigned program."""
    directory = sys.argv[1] if len(sys.argv) > 1 else DIRECTORY  # another one for tests
    # Not inherited by the program. For the message that execve itself failed, after 2 has become the log.
    console = posix.dup(2)
    try:
        argv, env, cwd = parse(read(directory + "/assignment"))
        attach(directory + "/log", console)
        become(argv, env, cwd)
    except Refused as refusal:
        report(f"gate: {refusal}\n".encode("utf-8", "backslashreplace"), console)
        posix._exit(REFUSED)


def read(path):
    """Return all that is written to the FIFO by its (first) writer."""
    try:
        fifo = posix.open(path, posix.O_RDONLY)
        chunks, size = [], 0
        while chunk := posix.read(fifo, 1 << 16):
            chunks.append(chunk)
            size += len(chunk)
            if size > LIMIT_BYTES:
                raise Refused(f"the assignment has more than {LIMIT_BYTES} bytes")
        posix.close(fifo)
    except OSError as error:
        raise Refused(f"can't read {path}: {error.strerror}") from None
    return b"".join(chunks)


def parse(raw):
    """Return argv, env and cwd as bytes; raises Refused for anything that is not exactly an assignment."""
    try:
        text = raw.decode("utf-8").strip(" \t\r\n")
        value, end = make_scanner(Rules)(text, 0)
    except (ValueError, StopIteration, RecursionError, SystemError):
        # SystemError: without the package json, the scanner of some versions can't find the exception that it raises.
        raise Refused(f"the assignment ({len(raw)} bytes) is not JSON in UTF-8") from None
    if end != len(text) or type(value) is not dict or set(value) != {"argv", "env", "cwd"}:
        raise Refused('the assignment is not one JSON object with "argv", "env" and "cwd"')
    argv, env, cwd = value["argv"], value["env"], value["cwd"]
    if type(argv) is not list or not argv or type(env) is not dict:
        raise Refused('"argv" must be a list with at least one string, and "env" an object')
    argv = [encode(item, '"argv"') for item in argv]
    cwd = encode(cwd, '"cwd"')
    if argv[0][:1] != b"/" or cwd[:1] != b"/":
        raise Refused('"cwd" and the first string of "argv" must be absolute paths')
    return argv, {encode_name(name): encode(item, f"the value of {name!r}") for name, item in env.items()}, cwd


def encode(value, what):
    """Return a string as the bytes that the kernel takes."""
    if type(value) is not str:
        raise Refused(f"{what} must be a string, not {type(value).__name__}")
    try:
        encoded = value.encode("utf-8")
    except UnicodeEncodeError:
        raise Refused(f"{what} is not valid Unicode") from None
    if b"\0" in encoded:
        raise Refused(f"{what} contains a NUL character")
    return encoded


def encode_name(name):
    """Return a variable's name as bytes."""
    encoded = encode(name, f'"env": the name {name!r}')
    if not encoded or b"=" in encoded:
        raise Refused(f'"env": {name!r} can\'t be the name of a variable')
    return encoded


def attach(log, console):
    """Make /dev/null standard input and the log standard output and error; close everything else."""
    try:
        posix.dup2(posix.open("/dev/null", posix.O_RDWR), 0)
        output = posix.open(log, posix.O_WRONLY)
        posix.dup2(output, 1)
        posix.dup2(output, 2)
        # The names, not a range: the limit says nothing about descriptors that were opened before it was set.
        for name in posix.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) != console:
                close(int(name))
    except OSError as error:
        raise Refused(f"can't attach the log {log}: {error.strerror}") from None


def close(descriptor):
    """Close; the one that listed the directory is closed already."""
    try:
        posix.close(descriptor)
    except OSError:
        return


def become(argv, env, cwd):
    """Replace this process; returns only by raising."""
    # Python ignores these two, and ignored signals are inherited.
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)
    step = "enter " + cwd.decode()
    try:
        posix.chdir(cwd)
        step = "run " + argv[0].decode()
        posix.execve(argv[0], argv, env)
    except OSError as error:
        size = sum(map(len, argv)) + sum(len(name) + len(value) + 2 for name, value in env.items())
        raise Refused(f"can't {step}: {error.strerror} (argv and env take {size} bytes)") from None


def report(message, console):
    """Write to the engine's standard error, and to the log when that is attached; neither may have a reader."""
    _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)
    for descriptor in (console, 2):
        try:
            if descriptor == console or posix.fstat(console)[1:3] != posix.fstat(descriptor)[1:3]:
                posix.write(descriptor, message)
        except OSError:
            continue


if __name__ == "__main__":
    main()
