"""Messages of a trunk are found again however their bytes arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.kit.trunk import Malformed, Splitter

MOST = 300


def encoded(messages: list[bytes]) -> bytes:
    return b"".join(len(message).to_bytes(4, "little") + message for message in messages)


@given(st.lists(st.binary(min_size=1, max_size=MOST), max_size=8), st.data())
def test_messages_are_found_however_they_are_cut(
    messages: list[bytes], data: st.DataObject
) -> None:
    sent = encoded(messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=9)))
    splitter = Splitter(MOST)
    found: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        if start < end:
            found += splitter.feed(sent[start:end])
    assert found == messages


@pytest.mark.parametrize("size", [0, MOST + 1, 2**32 - 1])
def test_a_message_of_no_or_too_many_bytes_is_refused(size: int) -> None:
    splitter = Splitter(MOST)
    found = splitter.feed(encoded([b"fine"]) + size.to_bytes(4, "little"))
    assert next(found) == b"fine"
    with pytest.raises(Malformed, match=str(size)):
        next(found)
