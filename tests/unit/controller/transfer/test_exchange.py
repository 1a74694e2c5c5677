from __future__ import annotations

import asyncio

import httpx
import pytest

from controller.domain.errors import PlatformError
from controller.transfer.exchange import Exchange
from controller.transfer.server import _ANSWER_LIMIT_BYTES, transfer_app

BASE = "http://controller:1"


@pytest.fixture
def exchange() -> Exchange:
    exchange = Exchange()
    exchange.base_url = BASE
    return exchange


def token_of(url: str) -> str:
    base, _, token = url.rpartition("/")
    assert base == BASE
    return token


def client_of(exchange: Exchange) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=transfer_app(exchange)), base_url=BASE)


def test_a_payload_is_given_out_once(exchange: Exchange) -> None:
    with exchange.open() as channel:
        token = token_of(channel.offer(b"payload"))
        assert exchange.fetch(token) == b"payload"
        assert exchange.fetch(token) is None


def test_a_repeated_offer_replaces_the_first(exchange: Exchange) -> None:
    with exchange.open() as channel:
        first, second = token_of(channel.offer(b"1")), token_of(channel.offer(b"2"))
        assert (exchange.fetch(first), exchange.fetch(second)) == (None, b"2")


def test_an_answer_is_taken_once(exchange: Exchange) -> None:
    with exchange.open() as channel:
        token = token_of(channel.answer_url)
        expected = exchange.expects(token)
        assert expected is channel
        channel.take(b"answer")
        assert exchange.expects(token) is None
        assert channel.answer() == b"answer"


def test_an_announced_answer_that_never_came_is_our_failure(exchange: Exchange) -> None:
    with exchange.open() as channel, pytest.raises(PlatformError, match="did not arrive"):
        channel.answer()


def test_nothing_can_be_reached_after_the_invocation(exchange: Exchange) -> None:
    with exchange.open() as channel:
        offered, answer = token_of(channel.offer(b"payload")), token_of(channel.answer_url)
    assert exchange.fetch(offered) is None
    assert exchange.expects(answer) is None
    assert (exchange._offers, exchange._answers) == ({}, {})


def test_a_payload_s_token_takes_no_answer_and_an_answer_s_gives_no_payload(exchange: Exchange) -> None:
    with exchange.open() as channel:
        offered, answer = token_of(channel.offer(b"payload")), token_of(channel.answer_url)
        assert exchange.expects(offered) is None
        assert exchange.fetch(answer) is None


async def test_workers_fetch_and_answer_over_http(exchange: Exchange) -> None:
    async with client_of(exchange) as client:
        with exchange.open() as channel:
            url = channel.offer(b"payload")
            assert (await client.get(url)).content == b"payload"
            assert (await client.get(url)).status_code == 404
            assert (await client.put(channel.answer_url, content=b"answer")).status_code == 204
            assert (await client.put(channel.answer_url, content=b"again")).status_code == 404
            assert channel.answer() == b"answer"


async def test_an_answer_over_the_limit_is_refused_and_not_kept(exchange: Exchange) -> None:
    async with client_of(exchange) as client:
        with exchange.open() as channel:
            response = await client.put(channel.answer_url, content=bytes(_ANSWER_LIMIT_BYTES + 1))
            assert response.status_code == 413
            with pytest.raises(PlatformError):
                channel.answer()


async def test_channels_do_not_know_each_other(exchange: Exchange) -> None:
    async with client_of(exchange) as client:
        with exchange.open() as one, exchange.open() as other:
            await asyncio.gather(
                client.put(one.answer_url, content=b"one"), client.put(other.answer_url, content=b"other")
            )
            assert (one.answer(), other.answer()) == (b"one", b"other")
