"""Make the dashboards of the chart from the table below: `python helm/observe/dashboards.py`.

The files in helm/rallypoint/dashboards are plain JSON for Grafana; a test makes them again
and compares, and tests/integration/test_dashboards.py asks a real Prometheus all their queries.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from helm.observe import page
from helm.observe.page import (
    BYTES,
    FOLDER,
    PER_S,
    SECONDS,
    SHARE,
    SHORT,
    Panel,
    percentiles,
    rate,
)

FAULTS = 'code=~"INTERNAL|UNAVAILABLE|UNKNOWN|DATA_LOSS|DEADLINE_EXCEEDED"'

PLAYERS = (
    Panel(
        "Players and spectators",
        SHORT,
        {
            "players": "sum(rallypoint_room_players_count)",
            "streams": "sum(rallypoint_gateway_room_streams_count)",
            "spectators": "sum(rallypoint_gateway_spectators_count)",
        },
    ),
    Panel("Sessions", PER_S, {"{{outcome}}": rate("rallypoint_gateway_sessions_total", "outcome")}),
    Panel("Joins", PER_S, {"{{outcome}}": rate("rallypoint_gateway_joins_total", "outcome")}),
    Panel(
        "Refused by the guard",
        PER_S,
        {
            "{{reason}}": rate("rallypoint_gateway_guard_refusals_total", "reason"),
        },
    ),
    Panel(
        "Slow clients",
        SHORT,
        {
            "not at full rate": "sum(rallypoint_gateway_slow_streams_count)",
        },
        "Streams that do not get every frame now, because they read too slowly.",
    ),
    Panel(
        "Steps of slow clients",
        PER_S,
        {
            "{{step}}": rate("rallypoint_gateway_slow_steps_total", "step"),
        },
    ),
)

ROOMS = (
    Panel("Rooms", SHORT, {"rooms": "sum(rallypoint_room_rooms_count)"}),
    Panel(
        "Rooms that ended",
        PER_S,
        {"{{game}} {{reason}}": rate("rallypoint_room_ended_total", "game, reason")},
    ),
    Panel("Results", PER_S, {"{{outcome}}": rate("rallypoint_room_results_total", "outcome")}),
    Panel("Snapshots", PER_S, {"{{outcome}}": rate("rallypoint_room_snapshots_total", "outcome")}),
    Panel(
        "Oldest snapshot",
        SECONDS,
        {"": "max(rallypoint_room_snapshot_age_seconds)"},
        "What would be lost of the room that waits longest, if its node died now.",
    ),
    Panel(
        "Bytes of frames and snapshots",
        BYTES,
        {
            "frames": rate("rallypoint_room_frame_bytes_total"),
            "snapshots": rate("rallypoint_room_snapshot_bytes_total"),
            "recordings": rate("rallypoint_room_replay_bytes_total"),
        },
    ),
    Panel("Moves", PER_S, {"{{outcome}}": rate("rallypoint_room_moves_total", "outcome")}),
    Panel("Gap of a move", SECONDS, percentiles("rallypoint_fleet_move_gap_seconds")),
    Panel(
        "Gap that clients saw",
        SECONDS,
        percentiles("rallypoint_gateway_epoch_gap_seconds"),
        "Moves and recoveries, from the last frame of one node to the first of the next.",
    ),
    Panel(
        "Frozen nodes",
        SHORT,
        {"nodes": "sum(rallypoint_room_frozen_state)"},
        "Nodes that nobody can reach hold their rooms still, so that none plays twice.",
    ),
)

TICKS = (
    Panel(
        "Work of a tick",
        SECONDS,
        percentiles("rallypoint_room_tick_duration_seconds", "game"),
        "Of one table of rooms; the ticks of a process share 50 ms.",
    ),
    Panel("Lateness of a tick", SECONDS, percentiles("rallypoint_room_tick_lag_seconds", "game")),
    Panel(
        "Share of its second that a node ticks",
        SHARE,
        {
            "{{instance}}": rate("rallypoint_room_tick_duration_seconds_sum", "instance"),
        },
        "At 1 the process does nothing but ticks: it is full.",
    ),
    Panel(
        "Ticks given up", PER_S, {"{{game}}": rate("rallypoint_room_ticks_dropped_total", "game")}
    ),
    Panel(
        "Ticks that raised and were redone",
        PER_S,
        {
            "{{game}}": rate("rallypoint_room_rollbacks_total", "game"),
        },
    ),
    Panel("Often over budget", PER_S, {"{{game}}": rate("rallypoint_room_slow_total", "game")}),
    Panel(
        "Margin of inputs",
        SECONDS,
        percentiles("rallypoint_room_input_margin_seconds", "game"),
        "How long before they had to leave for their tick they came.",
    ),
    Panel(
        "Flushes that a gateway did not take",
        PER_S,
        {
            "refused": rate("rallypoint_room_frames_refused_total"),
        },
    ),
)

MATCHMAKING = (
    Panel(
        "Tickets searching",
        SHORT,
        {
            "{{queue}}": "sum by (queue) (rallypoint_mm_pool_tickets_count)",
        },
    ),
    Panel(
        "Time to match",
        SECONDS,
        percentiles('rallypoint_mm_ticket_wait_seconds{outcome="assigned"}', "queue"),
    ),
    Panel(
        "How tickets end",
        PER_S,
        {
            "{{queue}} {{outcome}}": rate(
                "rallypoint_mm_ticket_wait_seconds_count", "queue, outcome"
            ),
        },
    ),
    Panel(
        "Spread of ratings in a match",
        SHORT,
        percentiles("rallypoint_mm_match_spread_points", "queue"),
        "Points between the best and the worst player: what the tolerance bought.",
    ),
    Panel(
        "A look of the matcher",
        SECONDS,
        percentiles("rallypoint_mm_cycle_duration_seconds", "queue"),
    ),
    Panel(
        "Matches refused: a ticket had left",
        PER_S,
        {
            "{{queue}}": rate("rallypoint_mm_commit_conflicts_total", "queue"),
        },
    ),
    Panel(
        "Allocations",
        PER_S,
        {
            "{{queue}} {{outcome}}": rate("rallypoint_mm_allocations_total", "queue, outcome"),
        },
    ),
    Panel(
        "Results and ratings",
        PER_S,
        {
            "{{queue}} {{outcome}}": rate("rallypoint_mm_results_total", "queue, outcome"),
        },
    ),
    Panel(
        "Backfills",
        PER_S,
        {
            "{{queue}} {{outcome}}": rate("rallypoint_mm_backfills_total", "queue, outcome"),
        },
    ),
    Panel(
        "Leader of each queue",
        SHORT,
        {
            "{{lease}}": "sum by (lease) (rallypoint_lease_held_state)",
        },
        "1 everywhere: exactly one process leads.",
    ),
)

ALLOCATION = (
    Panel(
        "Allocate", SECONDS, percentiles('rallypoint_fleet_allocate_duration_seconds{outcome="OK"}')
    ),
    Panel(
        "Outcomes",
        PER_S,
        {
            "{{outcome}}": rate("rallypoint_fleet_allocate_duration_seconds_count", "outcome"),
        },
    ),
    Panel(
        "Slots",
        SHORT,
        {
            "{{set}} {{state}}": "sum by (set, state) (rallypoint_fleet_slots_count)",
        },
    ),
    Panel(
        "Share of slots in use",
        SHARE,
        {
            "{{set}}": 'sum by (set) (rallypoint_fleet_slots_count{state="used"})'
            ' / sum by (set) (rallypoint_fleet_slots_count{state="capacity"})',
        },
    ),
    Panel(
        "Claims never confirmed", PER_S, {"expired": rate("rallypoint_fleet_claims_expired_total")}
    ),
    Panel("Calls of Redis", SECONDS, percentiles("rallypoint_store_call_duration_seconds", "call")),
)

FLEET = (
    Panel(
        "Room nodes",
        SHORT,
        {
            "{{set}} {{state}}": "sum by (set, state) (rallypoint_fleet_nodes_count)",
        },
    ),
    Panel(
        "Rooms of dead nodes",
        PER_S,
        {
            "lost": rate("rallypoint_fleet_rooms_lost_total"),
            "recovered": rate("rallypoint_fleet_rooms_recovered_total"),
        },
    ),
    Panel(
        "From a death to the next tick",
        SECONDS,
        percentiles("rallypoint_fleet_recovery_duration_seconds"),
    ),
    Panel(
        "Moves asked for", PER_S, {"{{outcome}}": rate("rallypoint_fleet_moves_total", "outcome")}
    ),
    Panel(
        "Ready processes",
        SHORT,
        {
            "{{service}}": "sum by (service) (rallypoint_process_ready)",
        },
    ),
    Panel(
        "Broker connections",
        SHORT,
        {
            "NATS up": "sum(rallypoint_bus_connected_state)",
            "NATS down": "count(rallypoint_bus_connected_state == 0) or vector(0)",
        },
    ),
    Panel(
        "Errors of brokers",
        PER_S,
        {
            "NATS {{kind}}": rate("rallypoint_bus_errors_total", "kind"),
            "Redis {{kind}}": rate("rallypoint_store_errors_total", "kind"),
        },
    ),
    Panel(
        "Facts written, facts given up",
        PER_S,
        {
            "{{stream}}": rate("rallypoint_bus_facts_published_total", "stream"),
            "given up {{stream}}": rate("rallypoint_bus_dead_letters_total", "stream"),
        },
    ),
    Panel(
        "Fill of what refuses when full",
        SHARE,
        {"{{stream}}": "max by (stream) (rallypoint_bus_stream_fill_ratio)"},
        "Other streams forget their oldest.",
    ),
    Panel(
        "Disk of Redis",
        SHORT,
        {
            "fsyncs late, per s": rate("rallypoint_store_fsyncs_delayed_total"),
            "cannot write": "max(rallypoint_store_unsaved_state)",
        },
        "Late: over 2 s. Killed meanwhile, Redis may lose what it acknowledged.",
    ),
    Panel(
        "Internal calls", SECONDS, percentiles("rallypoint_rpc_server_duration_seconds", "method")
    ),
    Panel(
        "Passes of controllers",
        PER_S,
        {
            "{{controller}} {{outcome}}": rate(
                "rallypoint_kube_reconciles_total", "controller, outcome"
            ),
        },
    ),
    Panel(
        "Calls of the API server",
        SECONDS,
        percentiles("rallypoint_kube_call_duration_seconds", "method"),
    ),
)

EDGE = (
    Panel("Calls", PER_S, {"{{method}}": rate("rallypoint_gateway_calls_total", "method")}),
    Panel(
        "Share of calls that failed through us",
        SHARE,
        {
            "{{method}}": f"{rate(f'rallypoint_gateway_calls_total{{{FAULTS}}}', 'method')}"
            f" / {rate('rallypoint_gateway_calls_total', 'method')}",
        },
    ),
    Panel(
        "Codes",
        PER_S,
        {
            "{{method}} {{code}}": rate(
                'rallypoint_gateway_calls_total{code!="OK"}', "method, code"
            ),
        },
    ),
    Panel(
        "Latency",
        SECONDS,
        percentiles("rallypoint_gateway_call_duration_seconds", "method"),
        "Unary calls that waited for something; the others take microseconds.",
    ),
    Panel(
        "Refused before a handler",
        PER_S,
        {
            "{{reason}}": rate("rallypoint_gateway_refusals_total", "reason"),
        },
    ),
    Panel(
        "Connections",
        SHORT,
        {
            "HTTP/1.1": "sum(rallypoint_gateway_connections_count)",
            "of them WebSockets": "sum(rallypoint_gateway_websockets_count)",
            "streams {{edge}}": "sum by (edge) (rallypoint_gateway_streams_count)",
            "native gRPC": "sum(rallypoint_gateway_native_connections_count)",
        },
    ),
    Panel(
        "Fan-out",
        PER_S,
        {
            "{{outcome}}": rate("rallypoint_gateway_fanout_messages_total", "outcome"),
        },
    ),
    Panel("Bytes of the fan-out", BYTES, {"bytes": rate("rallypoint_gateway_fanout_bytes_total")}),
    Panel(
        "Inputs",
        PER_S,
        {
            "taken": rate("rallypoint_gateway_inputs_total"),
            "dropped": rate("rallypoint_gateway_inputs_dropped_total"),
        },
    ),
    Panel("Frames withheld", PER_S, {"stale": rate("rallypoint_gateway_frames_stale_total")}),
    Panel(
        "Attach streams",
        SHORT,
        {
            "{{state}}": "sum by (state) (rallypoint_gateway_nodes_count)",
        },
    ),
)

DASHBOARDS: Mapping[str, tuple[str, Sequence[Panel]]] = {
    "players": ("Players", PLAYERS),
    "rooms": ("Rooms", ROOMS),
    "tick-budget": ("Tick budget", TICKS),
    "matchmaking": ("Matchmaking quality", MATCHMAKING),
    "allocation": ("Allocation", ALLOCATION),
    "fleet": ("Fleet and brokers", FLEET),
    "edge": ("Edge", EDGE),
}


def text(name: str) -> str:
    """The file of a dashboard."""
    title, panels = DASHBOARDS[name]
    return page.as_text(page.dashboard(name, title, panels))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in DASHBOARDS:
        (FOLDER / f"{each}.json").write_text(text(each))
