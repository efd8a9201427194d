"""What to do about one set: which servers to create, which to empty, which to let go.

    (spec, revision, wanted number, servers as seen, limits, now) ──▶ Plan

Plan, then act: the plan may rest on an old view, so nothing it says is final. A retirement still
has to be granted by the fence and agreed to by the server itself (`retiring`), and deletes carry
the uid that was seen. An occupied or claimed server is never retired, whatever is wanted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rallypoint.fleet.domain import ordinals
from rallypoint.fleet.domain.game_server import Phase
from rallypoint.fleet.domain.game_server_set import GameServerSetSpec, Order

Reason = Literal["ScaledIn", "Superseded", "Failed", "NodeLeaving", "Drained"]
AVAILABLE: frozenset[Phase] = frozenset({"Ready", "Active", "Full"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server as last seen. `since` is when it became empty, in the same seconds as `now`.

    `drain` is spec.drain, set before the server is asked to go: from then on it only leaves. One
    that is `fenced` was chosen before, by us or by who led then, and is chosen first again.
    """

    name: str
    ordinal: int
    revision: str
    phase: Phase
    rooms: int = 0
    claims: int = 0
    since: float = 0.0
    created: float = 0.0
    node: str = ""
    node_leaving: bool = False
    drain: bool = False
    drain_since: float | None = None
    fenced: bool = False
    deletion_cost: int = 0
    update_priority: int = 0

    @property
    def occupied(self) -> bool:
        """Whether somebody plays there or was promised to."""
        return self.rooms + self.claims > 0

    @property
    def available(self) -> bool:
        """Whether it takes rooms, or would if it were not full."""
        return self.phase in AVAILABLE and not self.drain


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be under way."""

    creates: int = 64
    deletes: int = 64
    pending: int = 500


@dataclass(frozen=True, slots=True)
class Retire:
    """Let an empty server go, if the fence and the server agree."""

    name: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now; `look_again` is when the passing of time alone would change it."""

    creates: tuple[int, ...] = ()
    revisions: tuple[str, ...] = ()
    """Of each that is created: the newest, or the one before while an update must not go on."""
    retires: tuple[Retire, ...] = ()
    drains: tuple[str, ...] = ()
    forces: tuple[str, ...] = ()
    """Occupied servers whose time to drain is over, where the spec says that this ends them."""
    target: int = 0
    limited: bool = False
    stalled: bool = False
    look_again: float | None = None


@dataclass(frozen=True, slots=True)
class _View:
    """The servers of a set, sorted into heaps."""

    staying: list[Server]
    leaving: list[Server]
    failed: list[Server]
    old: list[Server]
    target: int
    replace: int
    stalled: bool


def plan(
    spec: GameServerSetSpec,
    *,
    revision: str,
    replicas: int,
    servers: Sequence[Server],
    now: float,
    limits: Limits = Limits(),
    failed_updates: int = 0,
    current: str = "",
    superseded_since: float | None = None,
) -> Plan:
    """Return what to do; `failed_updates` counts servers of this revision that ever failed.

    `current` is the revision most run, which new servers get while an update is held up, and
    `superseded_since` when the newest one came.
    """
    view = _view(spec, revision, replicas, servers, failed_updates)
    retires = [Retire(s.name, "Failed") for s in view.failed]
    retires += [Retire(s.name, _why(s)) for s in view.leaving if not s.occupied]
    updates = _superseded(spec, view, replicas)
    retires += [Retire(s.name, "Superseded") for s in updates]
    surplus = view.target + _surge(spec, view, replicas)
    excess = len(view.staying) - len(updates) - surplus
    gone, look_again, short = _scaled_in(spec, view, updates, excess, now)
    retires += [Retire(s.name, "ScaledIn") for s in gone]
    pending = sum(s.phase in ("Pending", "Starting") for s in view.staying)
    missing = max(0, surplus - len(view.staying))
    creates = max(0, min(missing, limits.creates, limits.pending - pending))
    ending, forced, due = _overdue(spec, view, now, superseded_since)
    drains = [s.name for s in view.leaving if s.occupied and not s.drain] + ending
    return Plan(
        creates=ordinals.free(
            [s.ordinal for s in servers], ordinals.parse_reserved(spec.reserved_ordinals), creates
        ),
        revisions=_revisions(spec, view, creates, revision=revision, current=current),
        retires=tuple(retires[: limits.deletes]),
        drains=tuple(drains),
        forces=tuple(forced),
        target=view.target,
        limited=short or view.target > replicas or creates < missing,
        stalled=view.stalled,
        look_again=min((at for at in (look_again, due) if at is not None), default=None),
    )


def part(value: int | str, whole: int, *, up: bool) -> int:
    """Return a number or a percentage of a number."""
    text = str(value)
    if not text.endswith("%"):
        return int(text)
    share = whole * int(text[:-1]) / 100
    return math.ceil(share) if up else math.floor(share)


def _why(leaving: Server) -> Reason:
    return "NodeLeaving" if leaving.node_leaving else "Drained"


def _view(
    spec: GameServerSetSpec,
    revision: str,
    replicas: int,
    servers: Sequence[Server],
    failed_updates: int,
) -> _View:
    known = sorted(servers, key=lambda s: s.ordinal)
    live = [s for s in known if s.phase not in ("Terminating", "Failed")]
    leaving = [s for s in live if s.node_leaving or s.drain]
    staying = [s for s in live if not (s.node_leaving or s.drain)]
    old = [s for s in staying if s.revision != revision]
    stalled = bool(old) and 0 < part(spec.update.max_failed, replicas, up=True) <= failed_updates
    replace = 0 if spec.update.paused or stalled else max(0, len(old) - spec.update.partition)
    return _View(
        staying=staying,
        leaving=leaving,
        failed=[s for s in known if s.phase == "Failed"],
        old=old,
        target=max(replicas, sum(s.occupied for s in staying)),
        replace=replace,
        stalled=stalled,
    )


def _revisions(
    spec: GameServerSetSpec, view: _View, creates: int, *, revision: str, current: str
) -> tuple[str, ...]:
    """Return what each new server is made from."""
    held = creates if spec.update.paused or view.stalled else spec.update.partition - len(view.old)
    before = max(0, min(creates, held)) if current else 0
    return (current,) * before + (revision,) * (creates - before)


def _overdue(
    spec: GameServerSetSpec, view: _View, now: float, superseded_since: float | None
) -> tuple[list[str], list[str], float | None]:
    """Return whose sessions of an old revision are over, whose drain is, and when the next are."""
    ending: list[str] = []
    dues: list[float] = []
    longest = spec.update.max_session_seconds
    if longest and view.replace and superseded_since is not None:
        busy = [s.name for s in view.old if s.occupied]
        if now >= superseded_since + longest:
            ending = busy[: view.replace]
        elif busy:
            dues.append(superseded_since + longest)
    forced: list[str] = []
    if spec.drain.on_timeout == "Force":
        ends = {
            s.name: s.drain_since + spec.drain.timeout_seconds
            for s in view.leaving
            if s.occupied and s.drain and s.drain_since is not None
        }
        forced = [name for name, end in ends.items() if end <= now]
        dues += [end for end in ends.values() if end > now]
    return ending, forced, min(dues, default=None)


def _surge(spec: GameServerSetSpec, view: _View, replicas: int) -> int:
    """Return how many more than the target there may be while old ones are replaced."""
    return min(view.replace, part(spec.update.max_surge, replicas, up=True))


def _superseded(spec: GameServerSetSpec, view: _View, replicas: int) -> list[Server]:
    """Choose empty servers of an older revision, never so many that too few are ready."""
    ready = sum(s.available for s in view.staying)
    least = replicas - part(spec.update.max_unavailable, replicas, up=False)
    spare = max(0, ready - least)
    chosen: list[Server] = []
    for server in sorted(
        view.old, key=lambda s: (not s.fenced, -s.update_priority, s.since, s.name)
    ):
        if server.occupied or len(chosen) == view.replace:
            continue
        if server.available:
            if spare == 0:
                continue
            spare -= 1
        chosen.append(server)
    return chosen


def _scaled_in(
    spec: GameServerSetSpec,
    view: _View,
    updates: Sequence[Server],
    excess: int,
    now: float,
) -> tuple[list[Server], float | None, bool]:
    """Choose who goes because fewer are wanted; also when to look again, and if it is not all."""
    if excess <= 0:
        return [], None, False
    chosen_already = {s.name for s in updates}
    empty = [s for s in view.staying if not s.occupied and s.name not in chosen_already]
    idle_s = spec.scale_in.min_idle_seconds
    ripe = [s for s in empty if not s.available or now - s.since >= idle_s]
    ripe.sort(key=_order(spec.scale_in.order, view))
    gone = ripe[: min(excess, spec.scale_in.max_per_step)]
    later = [s.since + idle_s for s in empty if s.available and now - s.since < idle_s]
    return gone, min(later, default=None), len(gone) < excess


def _order(wanted: Sequence[Order], view: _View) -> Callable[[Server], tuple[float | str, ...]]:
    """Return the sort key of a scale-in; names make it the same for every leader."""
    playing = Counter(s.node for s in view.staying if s.occupied)
    old = {s.name for s in view.old}
    keys: dict[Order, Callable[[Server], float]] = {
        "DeletionCost": lambda s: s.deletion_cost,
        "NotReady": lambda s: s.available,
        "Superseded": lambda s: s.name not in old,
        "EmptiestNode": lambda s: playing[s.node],
        "Newest": lambda s: -s.created,
    }
    return lambda s: (not s.fenced, *(keys[name](s) for name in wanted), s.name)
