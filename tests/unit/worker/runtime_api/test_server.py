from __future__ import annotations

import asyncio
import json
import socket
import uuid
from dataclasses import replace

import pytest

from tests.unit.worker.runtime_api.client import NEXT, listen, platform, post
from tests.unit.worker.waiting import wait_until
from worker.runtime_api.exchange import InvocationInProgressError
from worker.runtime_api.fatal_errors import MAX_RESPONSE_BYTES
from worker.runtime_api.server import RuntimeApiServer
from worker.runtime_api.types import ReportedError, ResponseTooLarge, RuntimeEvent, RuntimeResponse


def event(payload: bytes = b"{}") -> RuntimeEvent:
    return RuntimeEvent(
        request_id=str(uuid.uuid4()), deadline_at_ms=1700000000123, invoked_function_arn="arn:f", payload=payload
    )


async def test_a_runtime_is_served_one_event_after_another() -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        for number in range(3):
            sent = event(b'{"n":%d}' % number)
            await runtime.send(NEXT)
            outcome = aws.server.invoke(sent)
            got = await runtime.answer()
            assert got.status == 200
            assert got.body == sent.payload
            assert got.headers["lambda-runtime-aws-request-id"] == sent.request_id
            accepted = await runtime.ask(post(f"invocation/{sent.request_id}/response", b"[1]"))
            assert (accepted.status, accepted.body) == (202, b'{"status":"OK"}\n')
            assert await outcome == RuntimeResponse(body=b"[1]")
        assert aws.server.ready.done()


async def test_the_event_carries_the_headers_of_its_context() -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        sent = replace(
            event(), trace_id="Root=1-a", client_context='{"a":\n"ü"}', cognito_identity="{}\r\nX: y", tenant_id="t"
        )
        outcome = aws.server.invoke(sent)
        got = (await runtime.ask(NEXT)).headers
        assert got["lambda-runtime-deadline-ms"] == "1700000000123"
        assert got["lambda-runtime-invoked-function-arn"] == "arn:f"
        assert got["lambda-runtime-trace-id"] == "root=1-a"
        assert got["lambda-runtime-client-context"] == '{"a": "ü"}'
        assert got["lambda-runtime-cognito-identity"] == "{}  x: y"
        assert got["lambda-runtime-aws-tenant-id"] == "t"
        outcome.cancel()


async def test_an_event_given_before_the_runtime_asks_waits_for_it() -> None:
    async with platform() as aws:
        outcome = aws.server.invoke(event(b"early"))
        runtime = await aws.connect()
        assert (await runtime.ask(NEXT)).body == b"early"
        outcome.cancel()


async def test_a_reported_error_is_kept_byte_for_byte() -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        sent = event()
        outcome = aws.server.invoke(sent)
        await runtime.ask(NEXT)
        body = b'{ "errorMessage" : "\xc3\xbc",\n"errorType":"ValueError"}'
        path = f"invocation/{sent.request_id}/error"
        assert (await runtime.ask(post(path, body, Lambda_Runtime_Function_Error_Type="Unhandled"))).status == 202
        assert await outcome == ReportedError(body=body, error_type="Unhandled")


async def test_a_failed_initialisation_is_reported_and_ends_the_conversation() -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        answer = await runtime.ask(post("init/error", b"{}", Lambda_Runtime_Function_Error_Type="Runtime.X"))
        assert answer.status == 202
        assert await aws.server.init_error == ReportedError(body=b"{}", error_type="Runtime.X")
        assert (await runtime.ask(NEXT)).status == 403
        assert (await runtime.ask(post("init/error"))).status == 403


async def test_illegal_requests_are_refused_and_change_nothing() -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        never = await runtime.ask(post("invocation/nobody/response"))
        assert never.status == 403
        assert json.loads(never.body)["errorType"] == "InvalidStateTransition"

        sent = event()
        outcome = aws.server.invoke(sent)
        await runtime.ask(NEXT)
        wrong = await runtime.ask(post("invocation/wrong/response"))
        assert wrong.status == 400
        assert json.loads(wrong.body) == {"errorMessage": "Invalid request ID", "errorType": "InvalidRequestID"}
        assert (await runtime.ask(NEXT)).status == 403
        assert (await runtime.ask(post("init/error"))).status == 403
        assert not outcome.done()

        assert (await runtime.ask(post(f"invocation/{sent.request_id}/response"))).status == 202
        again = await runtime.ask(post(f"invocation/{sent.request_id}/error"))
        assert again.status == 400
        assert await outcome == RuntimeResponse(body=b"{}")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /2018-06-01/runtime/restore/next", 404),
        ("GET /anything", 404),
        ("DELETE /2018-06-01/runtime/invocation/next", 405),
    ],
)
async def test_unknown_requests_are_answered_and_the_connection_lives(request_line: str, status: int) -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        for _ in range(2):
            assert (await runtime.ask(f"{request_line} HTTP/1.1\r\nHost: x\r\n\r\n".encode())).status == status


async def test_the_largest_response_passes_and_one_more_byte_does_not() -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        for size in (MAX_RESPONSE_BYTES, MAX_RESPONSE_BYTES + 1):
            sent = event()
            outcome = aws.server.invoke(sent)
            await runtime.ask(NEXT)
            answer = await runtime.ask(post(f"invocation/{sent.request_id}/response", b"x" * size))
            if size == MAX_RESPONSE_BYTES:
                assert answer.status == 202
                assert await outcome == RuntimeResponse(body=b"x" * size)
            else:
                assert answer.status == 413
                assert json.loads(answer.body) == {
                    "errorMessage": "Exceeded maximum allowed payload size (6291556 bytes).",
                    "errorType": "RequestEntityTooLarge",
                }
                assert await outcome == ResponseTooLarge(size_bytes=size)


async def test_a_runtime_that_gives_up_within_a_too_large_response_has_still_answered() -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        sent = event()
        outcome = aws.server.invoke(sent)
        await runtime.ask(NEXT)
        whole = post(f"invocation/{sent.request_id}/response", b"x" * (MAX_RESPONSE_BYTES * 2))
        await runtime.send(whole[: MAX_RESPONSE_BYTES + 100_000])
        runtime.writer.close()
        async with asyncio.timeout(5):
            assert isinstance(await outcome, ResponseTooLarge)


async def test_streamed_responses_are_buffered_and_errors_in_trailers_count() -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        for trailers in (b"", b"Lambda-Runtime-Function-Error-Type: X\r\nLambda-Runtime-Function-Error-Body: e30=\r\n"):
            sent = event()
            outcome = aws.server.invoke(sent)
            await runtime.ask(NEXT)
            head = (
                f"POST /2018-06-01/runtime/invocation/{sent.request_id}/response HTTP/1.1\r\nHost: x\r\n"
                "Content-Type: text/plain\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n"
                "Transfer-Encoding: chunked\r\n\r\n"
            ).encode()
            await runtime.send(head + b"3\r\nabc\r\n")
            assert (await runtime.ask(b"2\r\nde\r\n0\r\n" + trailers + b"\r\n")).status == 202
            if trailers:
                assert await outcome == ReportedError(body=b"{}", error_type="X")
            else:
                assert await outcome == RuntimeResponse(body=b"abcde", content_type="text/plain")


async def test_a_runtime_that_hung_up_while_waiting_gets_its_event_on_the_next_connection() -> None:
    async with platform() as aws:
        first = await aws.connect()
        await first.send(NEXT)
        await aws.server.ready
        first.writer.close()
        await first.writer.wait_closed()
        await wait_until(lambda: not aws.server._connections.open, "the server notices the hang-up")
        outcome = aws.server.invoke(event(b"kept"))
        second = await aws.connect()
        assert (await second.ask(NEXT)).body == b"kept"
        outcome.cancel()


async def test_the_latest_of_two_waiting_requests_gets_the_event() -> None:
    async with platform() as aws:
        first, second = await aws.connect(), await aws.connect()
        await first.send(NEXT)
        await aws.server.ready
        await second.send(NEXT)
        assert (await first.answer()).status == 403
        outcome = aws.server.invoke(event(b"one"))
        assert (await second.answer()).body == b"one"
        outcome.cancel()


async def test_one_event_at_a_time() -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        first = aws.server.invoke(event())
        with pytest.raises(InvocationInProgressError):
            aws.server.invoke(event())
        await runtime.ask(NEXT)
        first.cancel()
        with pytest.raises(InvocationInProgressError):
            aws.server.invoke(event())


async def test_an_event_given_up_before_the_runtime_asks_is_not_delivered() -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        aws.server.invoke(event(b"given up")).cancel()
        await runtime.send(NEXT)
        await aws.server.ready
        outcome = aws.server.invoke(event(b"wanted"))
        assert (await runtime.answer()).body == b"wanted"
        outcome.cancel()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0\1\2\3 nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * 600_000,
        b"GET /" + b"x" * 600_000,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 60_000,
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT: " + b"x" * 600_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["bytes", "version", "header", "target", "headers", "smuggling", "trailer", "tls", "connect"],
)
async def test_garbage_is_refused_and_hung_up_on(garbage: bytes) -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        runtime.writer.write(garbage)
        said = await runtime.closed()
        assert said == b"" or b" 400 " in said
        healthy = await aws.connect()
        outcome = aws.server.invoke(event(b"fine"))
        assert (await healthy.ask(NEXT)).body == b"fine"
        outcome.cancel()


async def test_requests_behind_a_waiting_next_are_hung_up_on() -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        runtime.writer.write(NEXT + NEXT)
        await runtime.closed()
        outcome = aws.server.invoke(event(b"kept"))
        second = await aws.connect()
        assert (await second.ask(NEXT)).body == b"kept"
        outcome.cancel()


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        sent = event()
        outcome = aws.server.invoke(sent)
        await runtime.send(
            NEXT + post(f"invocation/{sent.request_id}/response", b"1") + b"GET /x HTTP/1.1\r\n\r\n" + NEXT
        )
        statuses = [(await runtime.answer()).status for _ in range(3)]
        assert statuses == [200, 202, 404]
        assert await outcome == RuntimeResponse(body=b"1")
        following = aws.server.invoke(event(b"more"))
        assert (await runtime.answer()).body == b"more"
        following.cancel()


async def test_connections_beyond_the_limit_are_dropped() -> None:
    async with platform(max_connections=2) as aws:
        kept = [await aws.connect() for _ in range(2)]
        for runtime in kept:
            assert (await runtime.ask(b"GET / HTTP/1.1\r\n\r\n")).status == 404
        extra = await aws.connect()
        assert await extra.closed() == b""


async def test_bodies_of_all_connections_together_are_bounded() -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        sent = event()
        outcome = aws.server.invoke(sent)
        await runtime.ask(NEXT)
        unfinished = post(f"invocation/{sent.request_id}/response", b"x" * 6_000_000)[:-1]
        others = [await aws.connect() for _ in range(5)]
        for other in others:
            await other.send(unfinished)
        await wait_until(
            lambda: sum(connection._body_bytes for connection in aws.server._connections.open) == 5 * 5_999_999,
            "all but the last bytes have arrived",
        )
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*(other.ask(b"x") for other in others))
        assert sorted(answer.status for answer in answers) == [202, 400, 400, 400, 503]
        if not outcome.done():
            outcome.cancel()
        assert aws.server._connections.buffered_bytes == 0


async def test_expect_continue_is_granted() -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        request = post("init/error", b"body", Expect="100-continue")
        await runtime.send(request[:-4])
        async with asyncio.timeout(5):
            assert await runtime.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await runtime.ask(b"body")).status == 202


async def test_close_cancels_what_is_pending_and_frees_the_port() -> None:
    listener = listen()
    address = listener.getsockname()
    server = RuntimeApiServer(listener)
    await server.start()
    outcome = server.invoke(event())
    await server.close()
    await server.close()
    assert outcome.cancelled()
    assert server.ready.cancelled()
    assert server.init_error.cancelled()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=1)


async def test_small_answers_are_not_delayed() -> None:
    async with platform() as aws:
        runtime = await aws.connect()
        await runtime.send(NEXT)
        await aws.server.ready
        (connection,) = aws.server._connections.open
        assert connection._transport is not None
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
