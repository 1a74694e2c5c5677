"""From the setting to the store: which URL means which kind of blob store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from contract.blobs.directory import DirectoryBlobStore
from contract.blobs.store import BlobStore

_FORMS: Final = (
    "expected file:///an/absolute/directory, or s3://bucket/prefix?endpoint=https://…&region=…&profile=…"
    " (prefix, endpoint, region and profile as needed; credentials as boto3 finds them)"
)
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_OPTIONS: Final = frozenset({"endpoint", "region", "profile"})


def open_blob_store(url: str) -> BlobStore:
    """Return the store that `url` names. Raises ValueError, as `check_blob_url` does.

    Nothing is read or made, and nothing is connected to, before the store is used.
    """
    check_blob_url(url)
    parts = urlsplit(url)
    if parts.scheme == "file":
        return DirectoryBlobStore(Path(unquote(parts.path)))
    # Only who keeps blobs in a bucket pays for boto3's import, a third of a second.
    from contract.blobs.s3 import Bucket, S3BlobStore

    prefix = unquote(parts.path).strip("/")
    options = {name: values[0] for name, values in parse_qs(parts.query).items()}
    bucket = Bucket(
        name=parts.netloc,
        prefix=f"{prefix}/" if prefix else "",
        endpoint=options.get("endpoint"),
        region=options.get("region"),
        profile=options.get("profile"),
    )
    return S3BlobStore(bucket)


def check_blob_url(url: str) -> None:
    """Raise ValueError, whose text begins with the setting's name, unless `open_blob_store` takes `url`."""
    parts = urlsplit(url)
    wrong = {"file": _wrong_with_file, "s3": _wrong_with_s3}.get(parts.scheme, _wrong_with_scheme)(parts)
    if wrong:
        raise ValueError(f"LAMBDOCK_BLOB_URL is {_shown(url)!r}: {wrong}; {_FORMS}")


def _shown(url: str) -> str:
    """Return a URL for print: without what is before an @, and without its query, where people write secrets."""
    plain, mark, _ = re.sub(r"//[^?#]*@", "//…@", url).partition("?")
    return f"{plain}?…" if mark else plain


def _wrong_with_scheme(_: SplitResult) -> str:
    return "no such kind of store"


def _wrong_with_file(parts: SplitResult) -> str:
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        return "only a path is allowed"
    if not path.startswith("/") or path == "/" or "\0" in path:
        return "the directory must be absolute and not the root"
    return ""


def _wrong_with_s3(parts: SplitResult) -> str:
    options = parse_qs(parts.query, keep_blank_values=True)
    if "@" in parts.netloc:
        return "credentials do not belong into the URL"
    if not _BUCKET.fullmatch(parts.netloc):
        return "what follows s3:// is no bucket's name"
    if parts.fragment or not options.keys() <= _OPTIONS or any(len(values) > 1 for values in options.values()):
        return f"its query may hold {', '.join(sorted(_OPTIONS))}, once each"
    if not all(value for values in options.values() for value in values):
        return "an option of its query is empty"
    for endpoint in options.get("endpoint", ()):
        where = urlsplit(endpoint)
        if where.scheme not in ("http", "https") or not where.hostname or "@" in where.netloc:
            return f"its endpoint {endpoint.rpartition('@')[2]!r} is no http(s) URL without credentials"
    return ""
