"""Lays out the module search path as Lambda does, then hands over to AWS's own runtime interface client."""

import os
import site
import sys

TASK_ROOT = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
RUNTIME_DIR = os.environ.get("LAMBDA_RUNTIME_DIR", "/var/runtime")
LAYER_DIRS = [f"/opt/python/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages", "/opt/python"]


def lay_out_search_path() -> None:
    """Put the function first, then its layers, then the runtime's own packages, then the standard library.

    A function that sets PYTHONPATH replaces the layers' directories, on Lambda too. Whatever it packs itself (boto3,
    say) wins over the runtime's.
    """
    own = "PYTHONPATH" in os.environ
    # The interpreter put the directory of this script first, unless told not to; it belongs behind the user's.
    rest = [entry for entry in sys.path if entry != RUNTIME_DIR]
    inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry in rest]
    rest = [entry for entry in rest if entry not in inherited]
    users = [TASK_ROOT, *(inherited if own else LAYER_DIRS)]
    sys.path[:] = [*dict.fromkeys(users), RUNTIME_DIR, *rest]
    # For the .pth files that packages bring along.
    for directory in users:
        if os.path.isdir(directory):
            site.addsitedir(directory)
    if not own:
        # For child processes, which find boto3 by it, as on Lambda.
        os.environ["PYTHONPATH"] = RUNTIME_DIR


if __name__ == "__main__":
    lay_out_search_path()

    # From here on, modules may be the user's. The client's own entry point, whose arguments stay when others change.
    from awslambdaric.__main__ import main

    main(["bootstrap", os.environ["_HANDLER"]])
