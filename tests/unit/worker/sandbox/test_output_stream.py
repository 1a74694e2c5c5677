from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.sandbox.output_stream import STDERR, STDOUT, Frames, MarkedLines, not_executed

MARKER = b"0123456789abcdef"


def framed(stream: int, data: bytes) -> bytes:
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(
    st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=40)), max_size=8),
    st.lists(st.integers(0, 10_000), max_size=12),
)
def test_frames_may_be_cut_anywhere(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    taken = Frames()
    got = {STDOUT: b"", STDERR: b""}
    for piece in pieces(b"".join(framed(*frame) for frame in frames), cuts):
        for stream, data in taken.take(piece):
            got[stream] += data

    for stream in (STDOUT, STDERR):
        assert got[stream] == b"".join(data for number, data in frames if number == stream)


@given(st.binary(max_size=60), st.binary(max_size=60), st.lists(st.integers(0, 10_000), max_size=12))
def test_a_marker_is_found_wherever_it_is_cut_and_taken_out(before: bytes, after: bytes, cuts: list[int]) -> None:
    lines = MarkedLines()
    lines.expect(MARKER)
    out = b""
    seen_at = -1
    for piece in pieces(before + MARKER + after, cuts):
        out += lines.take(piece)
        if lines.is_marked and seen_at < 0:
            seen_at = len(out)

    assert lines.is_marked
    assert seen_at >= len(before), "all that was written before it has been handed on"
    assert out + lines.rest() == before + after


def test_only_whole_lines_are_handed_on() -> None:
    lines = MarkedLines()

    assert lines.take(b"one\ntw") == b"one\n"
    assert lines.take(b"o") == b""
    assert lines.take(b"\nthree") == b"two\n"
    assert lines.rest() == b"three"
    assert lines.rest() == b""


def test_a_marker_ends_the_wait_for_the_rest_of_a_line() -> None:
    lines = MarkedLines()
    lines.take(b"unfinished")
    lines.expect(MARKER)

    assert lines.take(MARKER) == b"unfinished"


def test_a_line_without_end_is_not_held_for_ever_and_hides_no_marker() -> None:
    lines = MarkedLines()
    lines.expect(MARKER)
    data = b"x" * 200_000 + MARKER[:7]

    out = lines.take(data)
    assert 130_000 < len(out) < len(data)
    out += lines.take(MARKER[7:])
    assert lines.is_marked
    assert out == b"x" * 200_000


def test_a_marker_that_comes_late_is_taken_out_all_the_same() -> None:
    lines = MarkedLines()
    lines.expect(b"first---")
    lines.expect(b"second--")

    assert lines.take(b"a first--- b second-- c\n") == b"a  b  c\n"
    assert lines.is_marked


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            b"[FATAL tini (7)] exec /nope failed: No such file or directory\n",
            "fork/exec /nope: no such file or directory",
        ),
        (
            b"[FATAL tini (1)] exec nope failed: No such file or directory\n",
            'exec: "nope": executable file not found in $PATH',
        ),
        (b"[FATAL tini (7)] exec /x y failed: Permission denied\n", "fork/exec /x y: permission denied"),
        (b"[FATAL tini (7)] exec nope failed: Exec format error\n", "fork/exec nope: exec format error"),
        (b"", ""),
        (b"mine\n", ""),
        (b"before\n[FATAL tini (7)] exec /nope failed: No such file or directory\n", ""),
        (b"[FATAL tini (7)] exec /nope failed: No such file or directory\nafter\n", ""),
    ],
)
def test_only_an_init_process_s_own_and_only_words_tell_that_nothing_was_executed(output: bytes, reason: str) -> None:
    assert not_executed(output) == reason
