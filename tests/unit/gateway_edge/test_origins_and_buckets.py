"""The origin allow-list, token buckets, and whose address a request has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.gateway.domain import buckets, origin


@pytest.mark.parametrize(
    ("allowed", "came_from", "host", "passes"),
    [
        pytest.param(["https://a.io"], "https://a.io", "x", True, id="listed"),
        pytest.param(["https://a.io/"], "https://a.io", "x", True, id="listed with slash"),
        pytest.param(["https://a.io"], "https://a.io.evil.io", "x", False, id="longer"),
        pytest.param(["https://a.io"], "http://a.io", "x", False, id="other scheme"),
        pytest.param(["https://a.io"], "https://a.io:8443", "x", False, id="other port"),
        pytest.param(["https://a.io"], "null", "x", False, id="null"),
        pytest.param(["*"], "https://a.io", "x", False, id="star is no wildcard"),
        pytest.param([], "", "x", True, id="no browser"),
        pytest.param(["same-origin"], "http://h:80", "h:80", True, id="same"),
        pytest.param(["same-origin"], "http://h:81", "h:80", False, id="other page"),
        pytest.param(["same-origin"], "null", "", False, id="no host"),
        pytest.param([], "http://h:80", "h:80", False, id="same not asked for"),
    ],
)
def test_origin_is_matched_exactly(
    allowed: list[str], came_from: str, host: str, passes: bool
) -> None:
    assert origin.Origins(allowed).allows(came_from, host) is passes


def test_bucket_gives_its_burst_then_its_rate() -> None:
    bucket = buckets.Buckets(buckets.Rate(per_s=10, burst=3))
    assert [bucket.take("a", 0.0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take("a", 0.0) == pytest.approx(0.1)
    assert bucket.take("b", 0.0) == 0
    assert bucket.take("a", 0.1) == 0
    assert bucket.take("a", 0.1) == pytest.approx(0.1)


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=100))
def test_bucket_never_gives_more_than_rate_and_burst(gaps: list[float]) -> None:
    bucket = buckets.Buckets(buckets.Rate(per_s=5, burst=4))
    now, taken = 0.0, 0
    for gap in gaps:
        now += gap
        taken += bucket.take("a", now) == 0
    assert taken <= 4 + 5 * now + 1e-6


def test_bucket_table_is_bounded() -> None:
    bucket = buckets.Buckets(buckets.Rate(per_s=0.001, burst=1), capacity=100)
    for number in range(1000):
        bucket.take(str(number), 0.0)
    assert len(bucket) <= 100
    assert bucket.take("999", 0.0) > 0


def test_held_bucket_is_one_for_all_and_not_forgotten() -> None:
    table = buckets.Buckets(buckets.Rate(per_s=1, burst=2), capacity=10)
    assert table.take("a", 0.0) == 0
    first, second = table.hold("a"), table.hold("a")
    assert first is second
    assert table.take("a", 0.0) == 0
    assert first.full_at == 2.0
    table.release("a", 0.0)
    for number in range(100):
        table.take(str(number), 0.0)
    assert table.take("a", 0.0) == 1.0
    first.full_at = 1.0
    table.release("a", 0.0)
    assert table.take("a", 0.0) == 0
    assert table.take("a", 0.0) == 1.0
    assert len(table) <= 10


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_address_stands_for_its_owner(address: str, key: str) -> None:
    assert buckets.address_key(address) == key


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        pytest.param("10.0.0.1", "198.51.100.7", "198.51.100.7", id="behind the proxy"),
        pytest.param("10.0.0.1", "1.1.1.1, 198.51.100.7", "198.51.100.7", id="forged left"),
        pytest.param("10.0.0.1", "198.51.100.7, 10.0.0.2", "198.51.100.7", id="two proxies"),
        pytest.param("203.0.113.1", "198.51.100.7", "203.0.113.1", id="not our proxy"),
        pytest.param("10.0.0.1", "", "10.0.0.1", id="no header"),
        pytest.param("10.0.0.1", "198.51.100.7:4711", "198.51.100.7", id="port"),
        pytest.param("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1", id="IPv6 and port"),
    ],
)
def test_forwarded_address_counts_only_from_a_proxy(
    peer: str, forwarded: str, address: str
) -> None:
    proxies = buckets.Ranges(["10.0.0.0/8"])
    assert buckets.client_address(peer, forwarded, proxies) == address
