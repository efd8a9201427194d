"""What `up` runs: processes, their needs, their settings, restarts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from rallypoint.cli import plan

WISH = plan.Wish(data_dir=Path("/data"), room_nodes=2, gateways=2, bots=3)
KEYS = plan.Keys(cluster_key_hex="ab" * 32, signing_key_file=Path("/data/signing-key.pem"))


def planned(wish: plan.Wish = WISH) -> dict[str, plan.Process]:
    ports = plan.Ports({name: 1000 + n for n, name in enumerate(plan.listeners(wish))})
    return {p.name: p for p in plan.plan(wish, ports, keys=KEYS, brokers=[])}


def test_every_wished_process_is_planned_once() -> None:
    assert list(planned()) == [
        "fleet", "room-state-1", "room-state-2", "matchmaking", "gateway-1", "gateway-2", "bots",
    ]  # fmt: skip


def test_every_listener_has_its_own_name() -> None:
    listeners = plan.listeners(WISH)
    assert len(set(listeners)) == len(listeners)
    assert {"nats", "redis", "fleet/grpc", "room-state-2/metrics", "gateway-2/native"} <= set(
        listeners
    )


def test_services_left_out_are_not_planned_but_keep_their_address() -> None:
    wish = dataclasses.replace(WISH, kinds=("matchmaking",), bots=0)
    assert list(planned(wish)) == ["matchmaking"]
    assert "RALLYPOINT_FLEET_ADDRESS" in planned(wish)["matchmaking"].environment


def test_addresses_of_other_services_match_their_ports() -> None:
    processes = planned()
    fleet_port = processes["fleet"].environment["RALLYPOINT_GRPC_PORT"]
    matchmaking = processes["matchmaking"].environment
    assert matchmaking["RALLYPOINT_FLEET_ADDRESS"] == f"127.0.0.1:{fleet_port}"
    gateway = processes["gateway-1"].environment
    port = matchmaking["RALLYPOINT_GRPC_PORT"]
    assert gateway["RALLYPOINT_MATCHMAKING_ADDRESS"] == f"127.0.0.1:{port}"


def test_two_gateways_share_the_web_port_and_the_key() -> None:
    first, second = planned()["gateway-1"].environment, planned()["gateway-2"].environment
    for name in ("RALLYPOINT_WEB_PORT", "RALLYPOINT_CLUSTER_KEY", "RALLYPOINT_REUSE_PORT"):
        assert first[name] == second[name]
    assert first["RALLYPOINT_REUSE_PORT"] == "true"
    assert first["RALLYPOINT_NATIVE_PORT"] != second["RALLYPOINT_NATIVE_PORT"]


def test_extra_environment_reaches_every_service() -> None:
    wish = dataclasses.replace(WISH, environment={"RALLYPOINT_OTLP_ENDPOINT": "here:4317"})
    for process in planned(wish).values():
        assert process.environment["RALLYPOINT_OTLP_ENDPOINT"] == "here:4317"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("10.0.0.7", "http://10.0.0.7:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::1", "http://[::1]:8080"),
        ("::", "http://[::1]:8080"),
    ],
)
def test_bots_look_for_the_page_where_it_is(host: str, url: str) -> None:
    command = planned(dataclasses.replace(WISH, web_host=host))["bots"].command
    assert command[command.index("--url") + 1] == url


def test_nobody_needs_what_starts_later() -> None:
    order = [kind for group in plan.stop_order(planned().values()) for kind in group]
    kinds = [plan.kind_of(name) for name in order]
    for process in planned().values():
        for needed in set(process.needs) & set(kinds) - {"room-state"}:
            assert kinds.index(process.kind) < kinds.index(needed)


def test_draining_goes_from_the_edge_inwards() -> None:
    assert plan.stop_order(planned().values()) == [
        ["bots"],
        ["gateway-1", "gateway-2"],
        ["matchmaking"],
        ["fleet"],
        ["room-state-1", "room-state-2"],
    ]


def test_restarts_wait_longer_each_time_up_to_a_limit() -> None:
    pauses = [plan.backoff_s(deaths) for deaths in range(1, 10)]
    assert pauses == sorted(pauses)
    assert pauses[0] == plan.BACKOFF_S[0]
    assert pauses[-1] == plan.BACKOFF_S[-1]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("room-state-2", "room-state"), ("gateway-1", "gateway"), ("fleet", "fleet")],
)
def test_kind_of_a_name_drops_the_number(name: str, kind: str) -> None:
    assert plan.kind_of(name) == kind


def test_matchmaking_is_told_where_queue_documents_are() -> None:
    told = planned()["matchmaking"].environment["RALLYPOINT_QUEUE_FILES"]
    assert told == str(plan.queue_files(WISH.data_dir))
