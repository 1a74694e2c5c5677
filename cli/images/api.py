"""The platform's images, as the commands call them: signed like the Lambda API, with its errors as messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

import httpx

from cli.client import CONNECT_TIMEOUT_S, not_running, signature
from cli.errors import CliError, UsageError
from cli.http import json_object

_PATH = "/_lambdock/images"
#: An image that has arrived is read whole before the answer.
_CHECK_TIMEOUT_S = 3_600
_WRITE_TIMEOUT_S = 120


class Images:
    """The images of the caller's account."""

    def __init__(self, endpoint: str, region: str | None = None) -> None:
        if not endpoint.startswith(("http://", "https://")):
            raise UsageError(f"the endpoint must be a URL such as http://127.0.0.1:4566, not {endpoint!r}")
        self._endpoint = endpoint
        self._region = region

    def push(self, archive: Iterable[bytes], *, name: str | None = None, wanted: str | None = None) -> dict[str, Any]:
        """Send a `docker save` archive; return what the platform says of the image. Raises CliError."""
        query = {key: value for key, value in (("name", name), ("image", wanted)) if value}
        return json_object(self._ask("POST", query, content=archive))

    def list(self) -> Iterator[dict[str, Any]]:
        """Yield every image, by name. Raises CliError."""
        query: dict[str, str] = {}
        while True:
            page = json_object(self._ask("GET", query))
            yield from page.get("Images", ())
            if not page.get("NextMarker"):
                return
            query["Marker"] = page["NextMarker"]

    def remove(self, uri: str) -> None:
        """Forget an image. Raises CliError, also when there is none."""
        self._ask("DELETE", {"ImageUri": uri})

    def _ask(self, method: str, query: dict[str, str], content: Iterable[bytes] | None = None) -> httpx.Response:
        url = f"{self._endpoint}{_PATH}" + (f"?{urlencode(query)}" if query else "")
        timeout = httpx.Timeout(_CHECK_TIMEOUT_S, connect=CONNECT_TIMEOUT_S, write=_WRITE_TIMEOUT_S)
        try:
            headers = signature(method, url, region=self._region)
            with httpx.Client(timeout=timeout, trust_env=False) as http:
                answer = http.request(method, url, headers=headers, content=content)
        except httpx.InvalidURL:
            raise UsageError(f"the endpoint must be a URL such as http://127.0.0.1:4566, not {url!r}") from None
        except httpx.ConnectError:
            raise not_running(self._endpoint) from None
        except httpx.TimeoutException:
            raise CliError(f"{self._endpoint} took the request and did not answer in time") from None
        except httpx.HTTPError as error:
            raise CliError(f"{self._endpoint} broke the connection: {error or type(error).__name__}") from None
        if answer.is_error:
            raise _refused(answer)
        return answer


def _refused(answer: httpx.Response) -> CliError:
    body = json_object(answer)
    code = answer.headers.get("x-amzn-errortype") or str(answer.status_code)
    return CliError(f"{code}: {body.get('message') or body.get('Message') or 'no message'}")
