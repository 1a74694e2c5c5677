from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.logs.tail import TailBuffer


@given(st.lists(st.binary(max_size=50)), st.integers(1, 40))
def test_the_tail_is_the_end_of_everything(chunks: list[bytes], size: int) -> None:
    tail = TailBuffer(size)
    for chunk in chunks:
        tail.add(chunk)
    assert tail.contents() == b"".join(chunks)[-size:]
    tail.clear()
    assert tail.contents() == b""
