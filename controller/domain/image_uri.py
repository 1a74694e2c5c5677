"""What a function's ImageUri may look like: a reference as engines and registries read it."""

from __future__ import annotations

import re
from typing import Final

#: Longer ones name nothing that a registry could have.
MAX_CHARACTERS: Final = 1024

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE: Final = re.compile(
    rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?", re.ASCII
)


def is_image_reference(uri: str) -> bool:
    """Tell whether this names an image: `[host[:port]/]name[:tag][@sha256:digest]`."""
    return len(uri) <= MAX_CHARACTERS and _REFERENCE.fullmatch(uri) is not None
