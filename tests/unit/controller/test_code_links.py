"""How the packages behind the links of GetFunction and GetLayerVersion are sent."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.types import Message

from contract.blobs.memory import MemoryBlobStore
from controller.api.code_links import CodeLinks, code_router

DATA = bytes(range(256)) * 14_000
SHA256 = hashlib.sha256(DATA).hexdigest()


async def download(blobs: MemoryBlobStore, scratch: Path) -> list[Message]:
    links, sent = CodeLinks(b"secret"), list[Message]()
    app = FastAPI()
    app.include_router(code_router(links, blobs, scratch))

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        # Whatever the process does next, nothing of it lies about.
        assert list(scratch.iterdir()) == []
        sent.append(message)

    url = urlsplit(links.link("http://localhost", SHA256))
    scope = {
        "type": "http",
        "method": "GET",
        "path": url.path,
        "query_string": url.query.encode(),
        "headers": [],
        # The version from which on servers tell of a lost client by `send`.
        "asgi": {"spec_version": "2.4"},
    }
    await app(scope, receive, send)
    return sent


async def test_a_package_is_never_held_whole_and_leaves_no_file(tmp_path: Path) -> None:
    blobs = MemoryBlobStore()
    await blobs.put(DATA)

    head, *pieces = await download(blobs, tmp_path)

    assert head["status"] == 200
    assert (b"content-length", str(len(DATA)).encode()) in head["headers"]
    assert (b"content-type", b"application/zip") in head["headers"]
    assert b"".join(piece["body"] for piece in pieces) == DATA
    assert max(len(piece["body"]) for piece in pieces) <= 1 << 20
