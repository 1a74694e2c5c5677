"""`python -m deploy.images_ahead`: all images of `make up`, which take minutes on a fresh machine, and nothing else.

The tests do this beside other work; the layers are found again whatever installation asks for them.
"""

from __future__ import annotations

import sys

from deploy import installation as installations
from deploy import service_images
from deploy.console import GivingUpError, say
from deploy.up import make_images


def main() -> int:
    """Make the images of the platform and of the runtimes; return the exit code."""
    try:
        here = installations.read()
        service_images.copy_host_authorities()
        make_images(here, service_images.choose_bases(here))
    except GivingUpError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
