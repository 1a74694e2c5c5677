"""Offers payloads to workers and takes their answers, by tokens that work once."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from controller.domain.errors import PlatformError


class Exchange:
    """What this process offers and expects at the moment. `base_url` is where workers reach it."""

    class Channel:
        """The two directions of one invocation. Nothing of it can be reached once its context has ended."""

        def __init__(self, exchange: Exchange) -> None:
            self._exchange = exchange
            self._answer: bytes | None = None
            self._offer_token = ""
            self._answer_token = secrets.token_urlsafe(24)
            exchange._answers[self._answer_token] = self

        @property
        def answer_url(self) -> str:
            """Where a worker puts an answer."""
            return f"{self._exchange.base_url}/{self._answer_token}"

        def offer(self, payload: bytes) -> str:
            """Offer a payload; return where a worker fetches it. A repeated offer replaces the first."""
            self._exchange._offers.pop(self._offer_token, None)
            self._offer_token = secrets.token_urlsafe(24)
            self._exchange._offers[self._offer_token] = payload
            return f"{self._exchange.base_url}/{self._offer_token}"

        def answer(self) -> bytes:
            """Return what was put. Raises PlatformError if nothing was."""
            if self._answer is None:
                raise PlatformError("the worker has announced an answer that did not arrive")
            return self._answer

        def take(self, body: bytes) -> None:
            """A worker has put an answer; the token is spent."""
            self._answer = body
            self._exchange._answers.pop(self._answer_token, None)

        def close(self) -> None:
            """Withdraw what is left."""
            self._exchange._offers.pop(self._offer_token, None)
            self._exchange._answers.pop(self._answer_token, None)

    def __init__(self) -> None:
        self.base_url = ""
        self._offers: dict[str, bytes] = {}
        self._answers: dict[str, Exchange.Channel] = {}

    @contextmanager
    def open(self) -> Iterator[Channel]:
        """Open a channel for one invocation."""
        channel = Exchange.Channel(self)
        try:
            yield channel
        finally:
            channel.close()

    def fetch(self, token: str) -> bytes | None:
        """Give out an offered payload, once; None for a token that is unknown or spent."""
        return self._offers.pop(token, None)

    def expects(self, token: str) -> Channel | None:
        """Return the channel that waits for an answer under this token."""
        return self._answers.get(token)
