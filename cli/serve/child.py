"""First program of every child: ask the kernel to kill it when the supervisor dies, then become the real program.

Run by path with `python -I -S`, so that it starts in milliseconds. It exists because setting this between fork and
exec from Python is unsafe in a process that has threads.

Usage: child.py SUPERVISOR_PID PROGRAM [ARGUMENT…]
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Replace this process by the program; exit 70 when that cannot be done safely."""
    supervisor_pid, argv = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.stderr.write(f"prctl(PR_SET_PDEATHSIG) failed: {os.strerror(ctypes.get_errno())}\n")
        sys.exit(70)
    if os.getppid() != supervisor_pid:
        # It died before the request took effect: nobody would ever stop us.
        sys.exit(70)
    # Python ignores these two, and ignoring is inherited.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - without a shell is the purpose
    except OSError as error:
        sys.stderr.write(f"cannot run {argv[0]}: {error.strerror}\n")
        sys.exit(70)


main()
