"""The Lambda API as a function's sockets see it, and what a hostile function can make of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.unit.worker.endpoints.function import Api, request, sandbox
from tests.unit.worker.waiting import wait_until
from worker.endpoints import body as body_limits
from worker.endpoints import connection as limits
from worker.endpoints.doors import DoorsClosedError
from worker.endpoints.server import MAX_CONNECTIONS

INVOKE = "/2015-03-31/functions/g/invocations"


async def test_a_request_is_passed_on_in_the_function_s_name() -> None:
    api = Api()
    async with sandbox(api) as box:
        function = await box.connect()

        answer = await function.ask(request(INVOKE, b'{"a":1}', X_Amz_Invocation_Type="Event", X_Lambdock_Function="x"))

        assert (answer.status, answer.body) == (200, b'{"a":1}')
        assert api.callers == ["arn:aws:lambda:us-east-1:111111111111:function:f"]
        assert {name for name, _ in api.requests[0].headers} == {
            b"authorization",
            b"x-amz-invocation-type",
            b"content-length",
        }


async def test_a_connection_serves_many_requests_one_after_the_other() -> None:
    async with sandbox(Api()) as box:
        function = await box.connect()
        for number in range(50):
            assert (await function.ask(request(INVOKE, b"%d" % number))).body == b"%d" % number


async def test_a_request_right_behind_an_answer_s_last_byte_is_served() -> None:
    """The worker may still be closing its side when the function has read all and asks again."""
    lingers = asyncio.Event()

    class Slow(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"12345"
            await lingers.wait()

    api = Api(answer=lambda *_: httpx.Response(200, headers={"content-length": "5"}, stream=Slow()))
    async with sandbox(api) as box:
        function = await box.connect()
        assert (await function.ask(request())).body == b"12345"
        await function.send(request())
        (open_connection,) = await _open(box)
        await wait_until(lambda: open_connection._early, "the second request has come")
        assert len(api.requests) == 1
        lingers.set()
        assert (await function.answer()).body == b"12345"


async def test_a_chunked_body_and_an_answer_of_unknown_length_pass_piece_by_piece() -> None:
    came: list[bytes] = []

    class Stream(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in (b"one", b"", b"two"):
                yield piece

    api = Api(answer=lambda *_: httpx.Response(200, stream=Stream()), on_piece=came.append)
    async with sandbox(api) as box:
        function = await box.connect()
        head = request(INVOKE, Transfer_Encoding="chunked", method="POST")
        await function.send(head + b"3\r\nabc\r\n")
        await wait_until(lambda: came == [b"abc"], "the first piece is passed on before the second has come")
        await function.send(b"2\r\nde\r\n0\r\nX-Lambdock-Token: trailer\r\n\r\n")

        answer = await function.answer()

        assert (answer.headers["transfer-encoding"], answer.body) == ("chunked", b"onetwo")
        assert api.bodies == [b"abcde"]
        assert (await function.ask(request())).status == 200


async def test_a_large_body_waits_in_the_function_while_nobody_takes_it() -> None:
    api = Api(gate=asyncio.Event())
    body = bytes(16 * 2**20)
    async with sandbox(api) as box:
        function = await box.connect()
        function.writer.write(request(INVOKE, body))
        (open_connection,) = await _open(box)
        await wait_until(lambda: open_connection._body is not None and open_connection._body.is_full, "it is full")

        held = len(open_connection._body._held)  # type: ignore[union-attr]

        assert held < 2**20
        assert api.gate is not None
        api.gate.set()
        answer = await function.answer()
        assert answer.body == body


async def test_an_answer_that_nobody_reads_is_not_read_from_the_controller() -> None:
    sent = 0

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 65_536
                yield bytes(65_536)

    async with sandbox(Api(answer=lambda *_: httpx.Response(200, stream=Endless()))) as box:
        function = await box.connect()
        await function.send(request())
        (open_connection,) = await _open(box)
        await wait_until(lambda: not open_connection._writable.is_set(), "writing pauses")

        assert sent < 64 * 2**20


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /2015-03-31/functions HTTP/1.0\r\n\r\n",
        b"GET /2015-03-31/functions HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        b"CONNECT 127.0.0.1:6379 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /2015-03-31/functions HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /2015-03-31/functions HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /2015-03-31/functions HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        b"GET /2015-03-31/functions HTTP/1.1\r\nA: b\r\n X-Lambdock-Token: folded\r\n\r\n",
        b"GET /2015-03-31/functions HTTP/1.1\nX: y\n\n" + b"GET / HTTP/1.1\r\n\r\n" * 2,
        b"GET /2015-03-31/functions HTTP/1.1\r\n" + b"a:b\r\n" * (limits.MAX_HEADERS + 1) + b"\r\n",
        b"GET /2015-03-31/functions HTTP/1.1\r\na: " + b"b" * limits.MAX_HEAD_BYTES + b"\r\n\r\n",
        b"GET /2015-03-31/functions?" + b"b" * limits.MAX_HEAD_BYTES + b" HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_plain_request_ends_the_connection_and_reaches_nobody(sent: bytes) -> None:
    api = Api()
    async with sandbox(api) as box:
        function = await box.connect()
        await function.send(sent)

        said = await function.rest()

        assert said == b"" or said.startswith(b"HTTP/1.1 400 ") or b" 403 " in said.split(b"\r\n")[0]
        assert api.requests == []


async def test_a_second_request_in_the_body_of_the_first_is_no_request() -> None:
    api = Api()
    inner = b"GET /2015-03-31/functions HTTP/1.1\r\nHost: x\r\n\r\n"
    async with sandbox(api) as box:
        function = await box.connect()

        answer = await function.ask(request("/_lambdock/images", inner))

        assert answer.status == 404
        assert (await function.ask(request())).status == 200
        assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("path", "signed", "status", "error"),
    [
        ("/2015-03-31/functions", False, 403, "MissingAuthenticationTokenException"),
        ("/2015-03-31/../health", True, 404, "UnknownOperationException"),
        ("/_lambdock/images", True, 404, "UnknownOperationException"),
    ],
)
async def test_refusals_come_after_the_body_and_keep_the_connection(
    path: str, signed: bool, status: int, error: str
) -> None:
    api = Api()
    async with sandbox(api) as box:
        function = await box.connect()
        for _ in range(2):
            answer = await function.ask(request(path, bytes(3 * 2**20), signed=signed))
            assert (answer.status, answer.headers["x-amzn-errortype"]) == (status, error)
        assert api.requests == []


async def test_a_client_that_asks_before_it_sends_a_body_is_answered_first() -> None:
    async with sandbox(Api()) as box:
        function, refused = await box.connect(), await box.connect()
        await function.send(request(INVOKE, Content_Length="2", Expect="100-continue", method="POST"))
        assert await function.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await function.ask(b"{}")).body == b"{}"

        await refused.send(request("/health", Content_Length="2", Expect="100-continue", method="POST"))

        assert (await refused.rest()).startswith(b"HTTP/1.1 404 ")


async def test_a_body_over_lambda_s_limit_ends_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BODY_BYTES", 1000)
    api = Api()
    async with sandbox(api) as box:
        function = await box.connect()
        await function.send(request(INVOKE, bytes(1001)))

        assert (await function.rest()).startswith(b"HTTP/1.1 413 ")
        await wait_until(lambda: api.bodies == [] and not box.served._callers.open, "nothing is left")


async def test_a_body_that_stands_still_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limits, "_STALL_S", 0.05)
    async with sandbox(Api()) as box:
        function = await box.connect()
        await function.send(request(INVOKE, b"12345")[:-1])

        assert await function.rest() == b""


async def test_when_no_controller_can_be_reached_sdks_are_told_to_try_again() -> None:
    class Closed(Api):
        async def send(self, *_: object) -> httpx.Response:
            raise DoorsClosedError("away")

    async with sandbox(Closed()) as box:
        function = await box.connect()

        answer = await function.ask(request(INVOKE, bytes(2**20)))

        assert (answer.status, answer.headers["x-amzn-errortype"]) == (503, "ServiceException")
        assert (await function.ask(request())).status == 503


async def test_an_answer_that_breaks_off_breaks_the_connection() -> None:
    class Broken(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"123"
            raise httpx.ReadError("gone")

    headers = {"content-length": "5"}
    async with sandbox(Api(answer=lambda *_: httpx.Response(200, headers=headers, stream=Broken()))) as box:
        function = await box.connect()
        await function.send(request())

        assert not (await function.rest()).endswith(b"12345")


async def test_what_a_function_no_longer_waits_for_is_given_up() -> None:
    api = Api(gate=asyncio.Event())
    async with sandbox(api) as box:
        function = await box.connect()
        await function.send(request())
        await wait_until(lambda: api.requests, "it is under way")

        function.writer.close()

        await wait_until(lambda: api.cancelled == 1, "it is given up")


async def test_the_end_of_the_sandbox_ends_all_its_requests() -> None:
    api = Api(gate=asyncio.Event())
    async with sandbox(api) as box:
        functions = [await box.connect() for _ in range(3)]
        for function in functions:
            await function.send(request())
        await wait_until(lambda: len(api.requests) == 3, "they are under way")

        box.served.close()

        await wait_until(lambda: api.cancelled == 3, "they are given up")
        assert [await function.rest() for function in functions] == [b""] * 3
        with pytest.raises(ConnectionError):
            await box.connect()


async def test_more_connections_than_a_sandbox_may_have_wait_for_one_to_end() -> None:
    async with sandbox(Api()) as box:
        many = [await box.connect() for _ in range(MAX_CONNECTIONS)]
        await wait_until(lambda: len(box.served._callers.open) == MAX_CONNECTIONS, "all are taken")
        late = await box.connect()
        await late.send(request())
        assert (await many[0].ask(request())).status == 200
        assert len(box.served._callers.open) == MAX_CONNECTIONS

        many[0].writer.close()

        assert (await late.answer()).status == 200


async def test_a_flood_of_requests_is_held_and_served_later() -> None:
    async with sandbox(Api()) as box:
        functions = [await box.connect() for _ in range(40)]
        for function in functions:
            await function.send(request())
        await wait_until(lambda: box.served._callers.share.is_held, "the sandbox has had more than its share")

        assert {(await function.answer()).status for function in functions} == {200}
        await wait_until(lambda: not box.served._callers.share.is_held, "it is made up for")


async def test_a_request_with_a_body_of_no_bytes_and_one_without() -> None:
    api = Api(answer=lambda *_: httpx.Response(204))
    async with sandbox(api) as box:
        function = await box.connect()
        assert (await function.ask(request(INVOKE, b""))).status == 204
        answer = await function.ask(request(method="DELETE"))
        assert (answer.status, answer.body) == (204, b"")
        assert "content-length" not in answer.headers
        assert [asked.has_body for asked in api.requests] == [True, False]


async def test_connection_close_is_kept() -> None:
    async with sandbox(Api()) as box:
        function = await box.connect()

        answer = await function.ask(request(Connection="close"))

        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await function.rest() == b""


async def _open(box: object) -> tuple[limits.FunctionConnection]:
    callers = box.served._callers  # type: ignore[attr-defined]
    await wait_until(lambda: len(callers.open) == 1, "the connection is taken")
    (only,) = callers.open
    return (only,)
