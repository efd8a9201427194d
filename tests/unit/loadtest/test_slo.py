"""Limits turn counts into a verdict, and a document that is not understood is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from loadtest import addresses, report, slo

ECHO = slo.Row("input to echo", "grpc-web", 1000, 2, {50: 40, 95: 90, 99: 180})


def verdict(limits: dict[str, float], *rows: slo.Row) -> bool:
    return slo.passed(slo.judge({"input to echo": limits}, rows))


@pytest.mark.parametrize(
    ("limits", "green"),
    [
        ({"at_least": 998}, True),
        ({"at_least": 999}, False),
        ({"p50_ms": 40}, True),
        ({"p99_ms": 179}, False),
        ({"failed_percent": 0.2}, True),
        ({"failed_percent": 0.1}, False),
        ({"failed": 1}, False),
    ],
    ids=lambda value: str(value),
)
def test_limit_is_kept_or_not(limits: dict[str, float], green: bool) -> None:
    assert verdict(limits, ECHO) is green


def test_each_transport_is_judged_by_itself() -> None:
    slow = slo.Row("input to echo", "native", 10, 0, {99: 900})
    assert verdict({"p99_ms": 200}, ECHO)
    assert not verdict({"p99_ms": 200}, ECHO, slow)


def test_each_transport_that_was_asked_for_has_to_play() -> None:
    limits = {"input to echo": {"at_least": 1}}
    assert slo.passed(slo.judge(limits, [ECHO], {"grpc-web"}))
    assert not slo.passed(slo.judge(limits, [ECHO], {"grpc-web", "native"}))
    few = slo.Row("input to echo", "native", 3, 3, {})
    assert not slo.passed(slo.judge(limits, [ECHO, few]))


def test_what_the_load_says_of_itself_is_of_no_transport() -> None:
    pace = slo.Row("input pace", slo.OWN, 10, 0, {})
    assert slo.passed(slo.judge({"input pace": {"at_least": 10}}, [pace], {"grpc-web"}))


@pytest.mark.parametrize(
    ("url", "native", "share", "asked"),
    [
        ("http://a", "", 0.1, {"grpc-web"}),
        ("https://a", "grpcs://b", 0.1, {"grpc-web", "native"}),
        ("wss://a", "grpc://b", 0.0, {"websocket"}),
    ],
)
def test_addresses_tell_the_transports(
    url: str, native: str, share: float, asked: set[str]
) -> None:
    assert addresses.transports(url, native, share) == asked


def test_nothing_counted_is_red_where_something_was_wanted() -> None:
    assert not verdict({"at_least": 1})
    assert verdict({"failed": 0})


@pytest.mark.parametrize(
    "document",
    [
        None,
        {"objectives": {}},
        {"objectives": {"join": {}}},
        {"objectives": {"join": {"p98_ms": 1}}},
        {"objectives": {"join": {"p99_ms": "fast"}}},
        {"objectives": {"join": {"failed": True}}},
    ],
    ids=["nothing", "empty", "no limits", "unknown", "text", "flag"],
)
def test_document_that_is_not_understood_is_refused(document: Any) -> None:
    with pytest.raises(slo.SloError):
        slo.parse(document)


def test_shipped_objectives_are_understood() -> None:
    assert "input to echo" in slo.load(Path(slo.__file__).parent / "slo.yaml")


def test_report_draws_the_history_and_names_what_is_red() -> None:
    history = report.History()
    for second in range(3):
        history.look(
            second,
            players=5,
            per_s=100,
            failures_per_s=0,
            percentiles_ms={report.ECHO: {50: 40.0, 99: 90.0 + second}},
        )
    checks = slo.judge({"input to echo": {"p99_ms": 50}}, [ECHO])
    page = report.html("a <run>", history, rows=[ECHO], checks=checks, errors=[("X & Y", 2)])
    assert page.count("<polyline") == 5
    assert "RED" in page
    assert "a &lt;run&gt;" in page
    assert "X &amp; Y" in page


@pytest.mark.parametrize(
    ("late_ms", "busy", "saturated"), [(20, 0.5, False), (101, 0.5, True), (20, 0.95, True)]
)
def test_load_without_time_is_no_witness(late_ms: float, busy: float, saturated: bool) -> None:
    load = slo.Generator(late_ms, busy)
    assert load.saturated is saturated
    assert ("SATURATED" in load.line()) is saturated
