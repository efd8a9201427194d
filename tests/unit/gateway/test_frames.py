"""Frames put together from parts equal what protobuf would write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.gateway.domain import frames
from rallypoint.v1 import room_pb2


@given(size=st.one_of(st.integers(0, 40_000), st.sampled_from([0, 112, 127, 128, 16_383, 16_384])))
def test_message_equals_protobufs(size: int) -> None:
    frame = room_pb2.Frame(sections=[room_pb2.Section(data=b"x" * size)])
    expected = room_pb2.JoinResponse(frame=frame).SerializeToString()
    assert frames.as_message(frame.SerializeToString()) == expected


@given(
    base_tick=st.integers(0, 2**32 - 1),
    tick=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 2**64 - 1),
    data=st.binary(max_size=300),
)
def test_keyframe_is_known_by_its_base_tick(
    base_tick: int, tick: int, epoch: int, data: bytes
) -> None:
    frame = room_pb2.Frame(epoch=epoch, tick=tick, base_tick=base_tick)
    frame.sections.add(table=1, data=data)
    frame.events.add(id=5, body=data)
    assert frames.is_keyframe(frame.SerializeToString()) is (base_tick == 0)


def test_base_tick_after_the_sections_is_found() -> None:
    sections = room_pb2.Frame(sections=[room_pb2.Section(data=b"\x18\x00")]).SerializeToString()
    late = room_pb2.Frame(base_tick=9).SerializeToString()
    assert frames.is_keyframe(sections)
    assert not frames.is_keyframe(sections + late)


@pytest.mark.parametrize("body", [b"\x18", b"\x18\xff", b"\x0f\x01"], ids=["key", "value", "kind"])
def test_broken_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(frames.FrameMalformed):
        frames.is_keyframe(body)
