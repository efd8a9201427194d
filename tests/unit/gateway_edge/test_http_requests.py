"""Requests as bytes in, plans and bodies out, however the bytes are cut."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.gateway.domain.http_request import Head, HttpLimits, Plan, Refusal, RequestParser
from rallypoint.kit import errors

LIMITS = HttpLimits(max_header_bytes=1024, max_header_fields=10, max_pipelined=4)


@dataclass(frozen=True, slots=True)
class Taken:
    """A plan that remembers the head."""

    head: Head
    max_body_bytes: int = 100


def parser() -> RequestParser:
    return RequestParser(LIMITS, Taken)


def post(body: bytes, *, path: str = "/a", extra: bytes = b"") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + extra + b"\r\n" + body


def chunked(*parts: bytes) -> bytes:
    head = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


def refused(requests: RequestParser, *pieces: bytes) -> Refusal | None:
    """Feed pieces; return the refusal, if there is one."""
    try:
        for piece in pieces:
            requests.feed(piece)
    except Refusal as refusal:
        return refusal
    return None


def seen(requests: RequestParser) -> list[tuple[str, bytes]]:
    found = []
    while requests.ready:
        request = requests.ready.popleft()
        assert isinstance(request.plan, Taken)
        found.append((request.plan.head.path, request.body))
    return found


@given(
    st.lists(st.binary(max_size=40), min_size=1, max_size=4),
    st.lists(st.integers(0, 400), max_size=12),
)
def test_requests_are_the_same_however_they_are_cut(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(
        chunked(body) if body and index % 2 else post(body, path=f"/{index}")
        for index, body in enumerate(bodies)
    )
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    requests, found = parser(), []
    for begin, end in itertools.pairwise(edges):
        requests.feed(stream[begin:end])
        found += seen(requests)
    assert [body for _, body in found] == bodies
    assert requests.between


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    refusal = refused(parser(), data)
    assert refusal is None or refusal.http_status >= 400


@given(st.integers(0, 150), st.binary(min_size=1, max_size=4))
def test_a_changed_request_is_parsed_or_refused(at: int, noise: bytes) -> None:
    data = bytearray(post(b"hello"))
    data[at : at + len(noise)] = noise
    refusal = refused(parser(), bytes(data))
    assert refusal is None or refusal.http_status >= 400


def test_head_has_lower_case_names_and_joined_values() -> None:
    requests = parser()
    requests.feed(post(b"", path="/p?q=1", extra=b"X-Two: a\r\nx-two:  b \r\n"))
    plan = requests.ready[0].plan
    assert isinstance(plan, Taken)
    assert plan.head.headers["x-two"] == "a, b"
    assert plan.head.path == "/p"
    assert plan.head.target == "/p?q=1"
    assert plan.head.keep_alive


def test_repeated_head_serves_its_plan_again() -> None:
    requests = parser()
    requests.feed(post(b"first"))
    requests.feed(post(b"other"))
    first, second = requests.ready
    assert second.plan is first.plan
    assert (first.body, second.body) == (b"first", b"other")


def test_repeated_head_with_a_cut_body_is_parsed() -> None:
    requests = parser()
    requests.feed(post(b"first"))
    data = post(b"other")
    requests.feed(data[:-2])
    assert not requests.between
    requests.feed(data[-2:])
    assert [body for _, body in seen(requests)] == [b"first", b"other"]


def test_hot_head_is_not_taken_for_a_longer_request() -> None:
    requests = parser()
    requests.feed(post(b"12345"))
    requests.feed(post(b"12345") + post(b"6", path="/b"))
    assert seen(requests) == [("/a", b"12345"), ("/a", b"12345"), ("/b", b"6")]


def test_chunked_request_never_becomes_a_hot_head() -> None:
    requests = parser()
    for _ in range(3):
        requests.feed(chunked(b"hello", b"you"))
    assert [body for _, body in seen(requests)] == [b"helloyou"] * 3


@pytest.mark.parametrize(
    ("data", "http_status", "reason"),
    [
        pytest.param(b"GET / HTTP/1.1\nbad head\r\n\r\n", 400, "HTTP_MALFORMED", id="line"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", 400, "HTTP_MALFORMED", id="TLS hello"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, None, id="HTTP/2 preface"),
        pytest.param(
            post(b"", extra=b"X: " + b"y" * 2000 + b"\r\n"), 431, "HEADER_BYTES", id="big"
        ),
        pytest.param(post(b"", extra=b"X: y\r\n" * 20), 431, "HEADER_FIELDS", id="many"),
        pytest.param(b"GET /" + b"a" * 2000, 431, "HEADER_BYTES", id="endless target"),
        pytest.param(post(bytes(101)), 413, "MESSAGE_TOO_LARGE", id="body"),
        pytest.param(post(bytes(9000))[:120], 413, "MESSAGE_TOO_LARGE", id="announced body"),
        pytest.param(chunked(bytes(60), bytes(60)), 413, "MESSAGE_TOO_LARGE", id="chunked body"),
        pytest.param(post(b"") * 5, 429, "PIPELINE_LIMIT", id="pipelined"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            400,
            "UPGRADE_REFUSED",
            id="upgrade",
        ),
        pytest.param(
            post(b"", extra=b"Transfer-Encoding: chunked\r\n"), 400, "HTTP_MALFORMED", id="smuggle"
        ),
        pytest.param(post(b"", extra=b"Content-Length: 9\r\n"), 400, "HTTP_MALFORMED", id="two CL"),
    ],
)
def test_wrong_request_is_refused(data: bytes, http_status: int, reason: str | None) -> None:
    requests = parser()
    with pytest.raises(Refusal) as caught:
        requests.feed(data)
    assert caught.value.http_status == http_status
    assert len(requests.ready) == (LIMITS.max_pipelined if http_status == 429 else 0)
    assert reason in (None, caught.value.error.reason)


def test_header_that_drips_in_is_refused_before_it_ends() -> None:
    requests = parser()
    refusal = refused(requests, b"GET / HTTP/1.1\r\nX: ", *[b"y" * 10] * 200)
    assert refusal is not None
    assert refusal.http_status == 431


@pytest.mark.parametrize("begun", [b"0\r\nX: ", b"5\r\nhello\r\n0\r\nX: ", b"1;"], ids=repr)
def test_what_drips_in_around_a_body_is_bounded(begun: bytes) -> None:
    # Whoever keeps it until it ends would copy all of it with each read.
    requests = parser()
    refusal = refused(requests, chunked()[:-5] + begun, *[b"y" * 10] * 200)
    assert refusal is not None
    assert refusal.error.reason == "HEADER_BYTES"


def test_body_in_small_pieces_is_not_taken_for_trailers() -> None:
    requests = parser()
    data = chunked(*[b"y"] * 90)[:-2] + b"X: trailer\r\n\r\n"
    for at in range(len(data)):
        requests.feed(data[at : at + 1])
    assert seen(requests) == [("/a", b"y" * 90)]


def test_refused_head_stops_the_parser_before_the_body() -> None:
    def refuse(head: Head) -> Plan:
        raise Refusal(403, errors.PermissionDenied("ORIGIN_DENIED"))

    requests = RequestParser(LIMITS, refuse)
    with pytest.raises(Refusal) as caught:
        requests.feed(post(b"GET / HTTP/1.1\r\n\r\n"))
    assert caught.value.http_status == 403
    assert not requests.ready


def test_requests_before_a_refusal_are_kept() -> None:
    requests = parser()
    with pytest.raises(Refusal):
        requests.feed(post(b"good") + post(bytes(200)))
    assert seen(requests) == [("/a", b"good")]


def test_hot_heads_count_as_pipelined_too() -> None:
    requests = parser()
    refusal = refused(requests, *[post(b"x")] * 9)
    assert refusal is not None
    assert refusal.error.reason == "PIPELINE_LIMIT"
    assert len(requests.ready) == LIMITS.max_pipelined


def test_expect_is_told_only_after_the_head_was_accepted() -> None:
    requests = parser()
    data = post(b"body", extra=b"Expect: 100-continue\r\n")
    requests.feed(data[:30])
    assert not requests.wants_continue
    requests.feed(data[30:-4])
    assert requests.wants_continue


def test_upgrade_is_judged_and_what_follows_is_kept() -> None:
    requests = parser()
    head = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
    requests.feed(head + b"\x82\x80")
    (request,) = requests.ready
    assert isinstance(request.plan, Taken)
    assert request.plan.head.upgrade
    assert requests.beyond == b"\x82\x80"
    assert refused(requests, b"more") is not None


def test_upgrade_behind_another_request_is_refused() -> None:
    head = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    refusal = refused(parser(), post(b"a") + head)
    assert refusal is not None
    assert refusal.error.reason == "UPGRADE_REFUSED"
