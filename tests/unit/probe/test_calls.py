"""Header compression as far as it is followed, and events put together to calls, within bounds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from rallypoint.probe.domain import calls, exposition, hpack, l7, otlp
from rallypoint.probe.domain.cgroups import UNKNOWN, Owner
from rallypoint.probe.domain.l7 import Event, Frame, Kind

# Three calls of one connection by another library's encoder: Join, SendInput, Join.
BLOCKS = [
    bytes.fromhex(text)
    for text in (
        "8386449762c1d147aace6a92bf70afb4e7a7716cee62158ca7355f4187987495171e03e04082497f"
        "864d833505b11f5f901d75d0620d263d4c4d6564ff75d8749f578aba51d85b141c6490b2ff",
        "8386449b62c1d147aace6a92bf70afb4e7a7716cee62158dc5aa4c95576a7fc2c1c0bf",
        "8386c3c2c1c0bf",
    )
]
JOIN, INPUT = "rallypoint.v1.RoomService/Join", "rallypoint.v1.RoomService/SendInput"


def test_methods_are_read_through_the_table_and_secrets_are_not_kept() -> None:
    decoder = hpack.Decoder()
    heads = [decoder.read(block) for block in BLOCKS]
    assert heads == [hpack.Head(True, JOIN), hpack.Head(True, INPUT), hpack.Head(True, JOIN)]
    assert "abcdef" not in repr(vars(decoder))
    with pytest.raises(hpack.HpackError):
        hpack.Decoder().read(BLOCKS[1])  # a late joiner


def test_the_example_of_the_rfc_is_no_grpc() -> None:
    block = bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")  # RFC 7541, C.4.1
    assert hpack.Decoder().read(block) == hpack.Head(True, "")


@pytest.mark.parametrize(
    "block",
    [b"\x80", b"\xff\xff\xff\xff\xff\xff", b"\x44\x05/a", b"\xbe", b"\x3f\xe2\xff\xff\x7f",
     b"\x44\x84\xff\xff\xff\xff", b"\x44\x81\x00"],
)  # fmt: skip
def test_what_no_encoder_writes_is_refused(block: bytes) -> None:
    with pytest.raises(hpack.HpackError):
        hpack.Decoder().read(block)


def test_a_coded_string_is_decoded_in_one_pass_without_looking_back() -> None:
    assert hpack.huffman(bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff")) == b"www.example.com"
    largest = calls.MOST_BLOCK // 5 * 5
    assert hpack.huffman(iter(bytes(largest))) == b"0" * (largest * 8 // 5)
    read = itertools.count()
    with pytest.raises(hpack.HpackError):
        hpack.huffman(0xFF for _ in read)
    assert next(read) == 4  # bytes, as the longest code has 30 bits


def test_a_table_forgets_as_its_encoder_does() -> None:
    decoder = hpack.Decoder()
    put = b"\x44\x10/pkg.Svc/Method1"  # 5 + 16 + 32 bytes
    assert decoder.read(b"\x3f\x29" + put + put) == hpack.Head(True, "")  # 72 bytes: room for one
    with pytest.raises(hpack.HpackError):
        decoder.read(b"\xbf")


def event(kind: Kind, at: int, stream: int, number: int, **more: object) -> Event:
    told = Event(
        cookie=7, at_ns=at, cgroup=3, stream=stream, number=number, left=0, port=8090,
        kind=kind, flags=l7.END_HEADERS, type=Frame.HEADERS, role="server", block=b"",
    )  # fmt: skip
    return told._replace(**more)  # type: ignore[arg-type]


def conversation(missing: int = -1) -> Iterator[Event]:
    """Three calls that take 10, 20 and 30 ns, one event perhaps lost."""
    number = 0
    for i, block in enumerate(BLOCKS):
        stream, begun = 2 * i + 1, 1000 * i
        for piece in (block[:5], block[5:]):
            left = len(block) - 5 if piece is not block[5:] and len(piece) == 5 else 0
            if number != missing:
                yield event(Kind.HEADERS, begun, stream, number, block=piece, left=left)
            number += 1
        if number != missing:
            yield event(Kind.END, begun + 10 * (i + 1), stream, number)
        number += 1


def test_calls_are_timed_from_their_headers_to_their_end() -> None:
    follower = calls.Calls()
    follower.take(conversation())
    found = {key.method: timed.sum_ns for key, timed in follower.series.items()}
    assert found == {JOIN: 10 + 30, INPUT: 20}
    assert not any(follower.unrecognised.values())


def test_after_a_lost_event_calls_are_timed_without_a_method() -> None:
    follower = calls.Calls()
    follower.take(conversation(missing=3))
    found = {(key.protocol, key.method): t.sum_ns for key, t in follower.series.items()}
    assert found == {("grpc", JOIN): 10, ("http2", ""): 20 + 30}
    assert follower.unrecognised["broken"] == 1


def test_resets_are_failures_and_a_connection_given_up_is_forgotten() -> None:
    follower = calls.Calls()
    begin, _ = list(conversation())[:2]
    whole = event(Kind.HEADERS, 0, 1, 0, block=BLOCKS[0])
    follower.take([whole, event(Kind.END, 9, 1, 1, type=Frame.RST_STREAM)])
    (key,) = follower.series
    assert key.failed
    follower.take([begin._replace(number=2), event(Kind.GIVEN_UP, 0, 0, 3)])
    follower.take([event(Kind.END, 9, 1, 4)])
    assert len(follower.series) == 1


def test_tables_have_their_bounds() -> None:
    follower = calls.Calls()
    for number in range(calls.MOST_OPEN + 5):
        block = BLOCKS[0] if not number else b"\x83\x86\xc2\xbf"
        follower.take([event(Kind.HEADERS, 0, 2 * number + 1, number, block=block)])
    for cookie in range(calls.MOST_CONNECTIONS + 5):
        follower.take([event(Kind.HEADERS, 0, 1, 0, cookie=100 + cookie, block=BLOCKS[0])])
    assert follower.unrecognised["forgotten"] == 5 + 5 + 1
    for number in range(calls.MOST_QUESTIONS + 3):
        follower.take([event(Kind.QUERY, 0, number & 0xFFFF, 0, left=number)])
    follower.take([event(Kind.ANSWER, 5, 0, 0, left=0, flags=0)])
    assert not follower.series  # its question was the oldest
    for port in range(calls.MOST_SERIES + 2):
        follower.take([
            event(Kind.QUERY, 0, 1, 0, cookie=port, port=port),
            event(Kind.ANSWER, 5, 1, 0, cookie=port, port=port, flags=0),
        ])  # fmt: skip
    assert len(follower.series) == calls.MOST_SERIES
    assert follower.unrecognised["series_full"] == 2


def test_invented_methods_of_one_cgroup_are_one_and_take_no_place_from_others() -> None:
    follower, cookies = calls.Calls(), itertools.count()

    def call(number: int, cgroup: int) -> None:
        path = b"/a.B/c%d" % number
        block = b"\x83\x04" + bytes([len(path)]) + path + b"\x0f\x10\x10application/grpc"
        at = next(cookies)
        whole = event(Kind.HEADERS, 0, 1, 0, cookie=at, cgroup=cgroup, block=block)
        follower.take([whole, event(Kind.END, 9, 1, 1, cookie=at, cgroup=cgroup)])

    for number in range(calls.MOST_SERIES + 5):
        call(number, cgroup=3)
    call(0, cgroup=3)
    call(7000, cgroup=4)
    found = {(key.cgroup, key.method): timed.values.count for key, timed in follower.series.items()}
    assert len(found) == calls.MOST_METHODS + 2
    assert found[3, "a.B/c0"] == 2
    assert found[3, calls.OTHER] == calls.MOST_SERIES + 5 - calls.MOST_METHODS
    assert found[4, "a.B/c7000"] == 1
    for now in (0.0, 61.0):
        follower.expire(lambda cgroup: cgroup == 4, now)
    call(8000, cgroup=3)  # its number is given to another
    assert {key.method for key in follower.series if key.cgroup == 3} == {"a.B/c8000"}


def test_series_end_a_minute_after_their_pod_and_unknown_ones_are_one() -> None:
    follower = calls.Calls()
    for cgroup in (3, 4):
        follower.take([
            event(Kind.QUERY, 0, 1, 0, cgroup=cgroup),
            event(Kind.ANSWER, 5, 1, 0, cgroup=cgroup, flags=0),
        ])  # fmt: skip
    (one,) = calls.told(follower.series, lambda _: UNKNOWN)
    assert (one.values.count, one.key.port) == (2, 0)
    for now in (0.0, 59.0, 61.0):
        follower.expire(lambda cgroup: cgroup == 4, now)
    assert {key.cgroup for key in follower.series} == {4}


def test_calls_are_told_under_the_names_that_others_use() -> None:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsServiceRequest,
    )

    follower = calls.Calls()
    follower.take(conversation())
    found = calls.told(follower.series, lambda _: Owner("p", "u1", "c1"))
    text = exposition.text([], [], followed=found)
    told = [line for line in text.splitlines() if "_count{" in line]
    assert told == [
        'rpc_server_call_duration_seconds_count{pod_uid="u1",container_id="c1",'
        f'rpc_system_name="grpc",rpc_method="{method}",port="8090"}} {count}'
        for method, count in ((JOIN, 2), (INPUT, 1))
    ]
    body = otlp.request([], [], [], {}, otlp.Clock(10, 0), followed=found)
    pod, _ = ExportMetricsServiceRequest.FromString(body).resource_metrics
    (metric,) = pod.scope_metrics[0].metrics
    assert metric.name == "rpc.server.call.duration"
    assert [p.count for p in metric.exponential_histogram.data_points] == [2, 1]
