"""One set: look, plan, act, and say in its status what was found."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec

from rallypoint.fleet import resources
from rallypoint.fleet.domain import loads, observed, ordinals, pods, revisions, set_status
from rallypoint.fleet.domain.autoscaling import Load
from rallypoint.fleet.domain.game_server import USUAL, GameServer, GameServerSpec
from rallypoint.fleet.domain.game_server_set import GameServerSet, GameServerSetStatus
from rallypoint.fleet.domain.set_plan import Limits, Plan, Reason, Server, plan
from rallypoint.fleet.domain.set_status import Report
from rallypoint.fleet.domain.slow_start import SlowStart
from rallypoint.fleet.domain.workload import Pod
from rallypoint.fleet.operator.acts import Acts
from rallypoint.fleet.operator.config import Settings
from rallypoint.fleet.operator.leaving import Leaving
from rallypoint.fleet.operator.revising import Revising, Template
from rallypoint.fleet.operator.slots import Look, Slots, node_of
from rallypoint.fleet.operator.world import World
from rallypoint.kit import errors as kit_errors
from rallypoint.kit import metrics
from rallypoint.kit.clock import Clock
from rallypoint.kit.names import SetName
from rallypoint.kube import errors
from rallypoint.kube.objects import ObjectMeta

log = logging.getLogger(__name__)
T = TypeVar("T")
SEEN_S = 5.0
AT_ONCE = 16
IDLE_LOOK_S = 30.0


@dataclass(slots=True)
class Notes:
    """What a leader remembers of a set; the next one does without."""

    slow: SlowStart = field(default_factory=SlowStart)
    gone: dict[str, str] = field(default_factory=dict)
    """Servers we deleted, by uid, which the cache may still show."""
    failed: frozenset[str] = frozenset()
    swapped: set[str] = field(default_factory=set)
    """Places whose process is being replaced in its pod."""
    status_at: float = float("-inf")
    guarded: bool = False
    last: frozenset[str] = frozenset()
    """Places that allocators were told to fill last."""
    trouble: str = ""
    owned_elsewhere: str = ""
    reason: str = ""
    """Why the autoscaler wants what it wants."""


@dataclass(frozen=True, slots=True)
class View:
    """A set as it was looked at."""

    item: GameServerSet
    template: Template
    servers: dict[str, GameServer]
    seen: Sequence[Server]
    look: Look
    wanted: int
    current: str


class Sets:
    """Reconciles sets, each by its key."""

    def __init__(
        self, settings: Settings, world: World, acts: Acts, *,
        revising: Revising, leaving: Leaving, slots: Slots, clock: Clock,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._world, self._acts, self._clock = world, acts, clock
        self._revising, self._leaving, self._slots = revising, leaving, slots
        self._notes: dict[str, Notes] = {}

    def notes(self, key: str) -> Notes:
        """Return what is remembered of a set."""
        return self._notes.setdefault(key, Notes())

    def known_notes(self, key: str) -> Notes | None:
        """Return what is remembered of a set, if it is one that we know."""
        return self._notes.get(key)

    async def reconcile(self, key: str) -> float | None:
        """Bring a set nearer to what is wanted; return when to look again."""
        item = self._world.sets.lister.by_key(key)
        if item is None or item.metadata.deletion_timestamp:
            self._notes.pop(key, None)
            self._acts.epochs.forget(key)
            return None
        notes = self.notes(key)
        if clash := self._clash(item):
            self._acts.tell_set(item, "NameTaken", clash, warning=True)
            return IDLE_LOOK_S
        await self._guard(item, notes)
        view = await self._view(item)
        failures = await self._count_failures(view, notes)
        planned = self._plan(view, notes, failures)
        await self._act(view, planned, notes)
        await self._revising.prune(item, {s.spec.revision for s in view.servers.values()} | {
            view.template.name, view.current
        })  # fmt: skip
        again_s = await self._tell(view, planned, notes, failures)
        return self._next(planned, notes, again_s)

    def _clash(self, item: GameServerSet) -> str:
        """Return who has had this name for longer, in another namespace."""
        meta = item.metadata
        for other in self._world.sets.lister:
            known = other.metadata
            if known.name == meta.name and (known.creation_timestamp or "", known.namespace) < (
                meta.creation_timestamp or "", meta.namespace
            ):  # fmt: skip
                return f"set {known.namespace}/{known.name} has this name: nodes know no namespace"
        return ""

    async def _guard(self, item: GameServerSet, notes: Notes) -> None:
        """Have a disruption budget protect the pods in which somebody plays."""
        if notes.guarded:
            return
        labels = {pods.SET: item.metadata.name, pods.OCCUPIED: "true"}
        owner = msgspec.to_builtins(resources.GAME_SERVER_SETS.owner(item))
        await self._acts.budgets.apply(
            f"{item.metadata.name}-occupied",
            {
                "metadata": {"labels": dict(pods.NAMES), "ownerReferences": [owner]},
                "spec": {"maxUnavailable": 0, "selector": {"matchLabels": labels}},
            },
            namespace=item.metadata.namespace,
            force=True,
        )
        notes.guarded = True

    async def load(self, item: GameServerSet) -> Load:
        """Return what a set carries at this moment."""
        look = await self._slots.look(SetName(item.metadata.name))
        servers = self._seen_now(item, look)
        return loads.load(servers, self._players(servers), unmet=look.unmet)

    def _seen_now(self, item: GameServerSet, look: Look) -> list[Server]:
        servers, notes = self._world.of_set(item), self.notes(item.key)
        present = {one.metadata.uid for one in servers}
        notes.gone = {uid: name for uid, name in notes.gone.items() if uid in present}
        seen = [self._server(one, look, notes) for one in servers]
        return seen + [_stray(pod) for pod in self._world.stray_pods(item, servers)]

    async def _view(self, item: GameServerSet) -> View:
        template = await self._revising.ensure(item)
        look = await self._slots.look(SetName(item.metadata.name))
        seen = self._seen_now(item, look)
        before = item.status.current_revision if item.status else ""
        return View(
            item=item,
            template=template,
            servers={one.metadata.name: one for one in self._world.of_set(item)},
            seen=seen,
            look=look,
            wanted=set_status.wanted(item),
            current=set_status.current_revision(seen, before, template.name),
        )

    def _server(self, item: GameServer, look: Look, notes: Notes) -> Server:
        name = item.metadata.name
        seen = observed.server(
            self._world.sight(item),
            claims=look.used.get(name, 0),
            fenced=name in look.fenced_nodes,
        )
        if item.metadata.uid in notes.gone:
            return _terminating(seen)
        return seen

    async def _count_failures(self, view: View, notes: Notes) -> int:
        newest = [
            view.servers[one.name].metadata.uid
            for one in view.seen
            if one.revision == view.template.name and self._let_down(one, view)
        ]
        if fresh := frozenset(newest) - notes.failed:
            notes.slow = notes.slow.failed(self._clock.monotonic())
            notes.failed = frozenset(newest)
            log.info("servers failed", extra={"set": view.item.key, "count": len(fresh)})
        return await self._revising.failed(view.item, view.template, newest)

    def _let_down(self, seen: Server, view: View) -> bool:
        """Whether a server failed by itself, or never came up in the time that it has for that.

        One whose pod somebody else took away is replaced at once and speaks against no revision.
        """
        item = view.servers.get(seen.name)
        if item is None:
            return False
        if seen.phase == "Failed":
            return self._world.sight(item).pod is not None
        never_heard = item.status is None or item.status.occupancy is None
        return seen.phase == "Unhealthy" and never_heard

    def _plan(self, view: View, notes: Notes, failures: int) -> Plan:
        settings = self._settings
        held = notes.slow.allowance(self._clock.monotonic()) == 0
        now = self._clock.now()
        limits = Limits(
            creates=0 if held else settings.creates_per_pass,
            deletes=0 if view.look.trouble else settings.deletes_per_pass,
            pending=settings.pending_most,
        )
        return plan(
            view.item.spec,
            revision=view.template.name,
            replicas=view.wanted,
            servers=view.seen,
            now=now,
            limits=limits,
            failed_updates=failures,
            current=view.current,
            superseded_since=pods.seconds(view.template.since, now),
        )

    async def _act(self, view: View, planned: Plan, notes: Notes) -> None:
        notes.trouble = view.look.trouble
        await self._create_all(view, planned, notes)
        await self._each(planned.retires, lambda one: self._retire(view, one.name, one.reason))
        await self._each(planned.forces, lambda name: self._force(view, name))
        timeout_s = view.item.spec.drain.timeout_seconds
        asked = {*planned.drains, *(s.name for s in view.seen if s.drain and s.occupied)}
        await self._each(
            sorted(asked & view.servers.keys()),
            lambda name: self._leaving.drain(view.item, view.servers[name], within_s=timeout_s),
        )
        await self._give_back(view, planned, notes)
        await self._tell_allocators(view, notes)

    async def _each(self, items: Sequence[T], act: Callable[[T], Awaitable[object]]) -> None:
        """Act on several servers at once; one that waits holds up no other."""
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(item: T) -> None:
            async with turns:
                try:
                    await act(item)
                except kit_errors.RallypointError as error:
                    log.info("act waits: %s", error)

        await asyncio.gather(*(one(item) for item in items))

    async def _create_all(self, view: View, planned: Plan, notes: Notes) -> None:
        """Make what is missing; what is refused is told, and tried again later each time."""
        if not planned.creates:
            return
        left = list(zip(planned.creates, planned.revisions, strict=True))
        version = ""
        while left:
            batch, left = left[: notes.slow.batch], left[notes.slow.batch :]
            made = await asyncio.gather(
                *(self._create(view.item, number, revision) for number, revision in batch),
                return_exceptions=True,
            )
            version = max((one for one in made if isinstance(one, str)), key=_number, default="")
            refused = [one for one in made if isinstance(one, BaseException)]
            if refused:
                self._refused(view.item, notes, refused)
                return
            notes.slow = notes.slow.succeeded(len(made))
        if version:
            await self._seen(version)

    def _refused(self, item: GameServerSet, notes: Notes, refused: Sequence[BaseException]) -> None:
        if not isinstance(refused[0], errors.Forbidden | errors.Invalid):
            raise refused[0]
        notes.slow = notes.slow.failed(self._clock.monotonic())
        notes.trouble = f"{len(refused)} servers cannot be made: {refused[0]}"
        self._acts.tell_set(item, "CreateRefused", notes.trouble, warning=True)

    async def _create(self, item: GameServerSet, number: int, revision: str) -> str:
        """Make one server; the name made from its number keeps it from being made twice."""
        set_name, namespace = item.metadata.name, item.metadata.namespace
        meta = ObjectMeta(
            name=ordinals.server_name(set_name, number),
            namespace=namespace,
            labels={**pods.NAMES, pods.SET: set_name},
            owner_references=(resources.GAME_SERVER_SETS.owner(item),),
        )
        spec = GameServerSpec(set_name=set_name, ordinal=number, revision=revision)
        try:
            made = await self._acts.servers.create(GameServer(metadata=meta, spec=spec))
        except errors.AlreadyExists:
            return ""  # by an earlier try, whose answer was lost, or by who led before
        metrics.OPERATOR_ACTIONS.labels(set_name, "created").inc()
        return made.metadata.resource_version

    async def _seen(self, version: str) -> None:
        """Wait until the cache has what was written, or a while."""
        try:
            async with asyncio.timeout(SEEN_S):
                await self._world.servers.wait_version(version)
        except TimeoutError:
            return

    async def _retire(self, view: View, name: str, reason: Reason) -> None:
        item = view.servers[name]
        notes = self.notes(view.item.key)
        if reason == "Superseded" and self._may_swap(view, item):
            place = self._world.sight(item).heard
            if await self._leaving.swap(view.item, item, view.template.name, view.template.data):
                notes.swapped.add(place.node.place if place else name)
            return
        if await self._leaving.retire(view.item, item, reason):
            notes.gone[item.metadata.uid] = name

    def _may_swap(self, view: View, item: GameServer) -> bool:
        """Whether other images make the server one of the newest revision."""
        if view.item.spec.update.in_place == "Never":
            return False
        meta = item.metadata
        old = self._world.revisions.lister.get(item.spec.revision, namespace=meta.namespace)
        if old is None or old.data is None:
            return False
        return revisions.only_images_differ(old.data, view.template.data)

    async def _force(self, view: View, name: str) -> None:
        item = view.servers[name]
        if await self._leaving.force(view.item, item):
            self.notes(view.item.key).gone[item.metadata.uid] = name

    async def _give_back(self, view: View, planned: Plan, notes: Notes) -> None:
        """Take back fences of servers that shall stay; forget those of servers that are gone."""
        going = {one.name for one in planned.retires}
        going |= {one.name for one in view.seen if one.phase == "Terminating"}
        notes.swapped &= view.look.fenced.keys()
        left = []
        for place in view.look.fenced:
            heard = self._world.registry.sighting(node_of(place))
            alive = heard is not None and heard.node.place == place
            if node_of(place) in going or (place in notes.swapped and alive):
                continue
            left.append(place)
        await self._each(left, lambda place: self._leaving.keep(view.item, place))

    async def _tell_allocators(self, view: View, notes: Notes) -> None:
        """Tell how long claims wait, and which servers come last: those not updated yet."""
        if view.look.trouble:
            return
        places: set[str] = set()
        wish, name = view.item.spec.allocation, SetName(view.item.metadata.name)
        if wish.prefer_updated:
            old = [s.name for s in view.seen if s.revision != view.template.name]
            heard = [self._world.registry.sighting(name) for name in old]
            places = {one.node.place for one in heard if one is not None}
        try:
            if view.look.claim_ttl_s != wish.claim_ttl_seconds:
                await self._slots.tell_claim_ttl(name, wish.claim_ttl_seconds)
            if places != notes.last:
                await self._acts.fences.fill_last(name, places)
                notes.last = frozenset(places)
        except kit_errors.Unavailable as error:
            log.info("allocators are told later: %s", error)

    async def _tell(self, view: View, planned: Plan, notes: Notes, failures: int) -> float | None:
        """Write the status when it says something new; return when it may be written, if later."""
        item, now, steady = view.item, self._clock.now(), self._clock.monotonic()
        before = item.status
        scaled = None
        if before is None or before.desired_replicas != view.wanted:
            was = before.desired_replicas if before else 0
            scaled = (now, notes.reason or f"spec.replicas is {view.wanted}")
        found = set_status.status(
            Report(
                item=item, wanted=view.wanted, servers=view.seen, players=self._players(view.seen),
                plan=planned, update=view.template.name, current=view.current,
                failed_updates=failures, trouble=notes.trouble,
                owned_elsewhere=notes.owned_elsewhere, scaled=scaled, now=now,
            )
        )  # fmt: skip
        self._measure(item.metadata.name, view.seen, view.wanted)
        if found == before:
            return None
        wait_s = notes.status_at + self._settings.status_period_s - steady
        if (
            wait_s > 0
            and before is not None
            and before.observed_generation == found.observed_generation
        ):
            return wait_s
        await self._acts.sets.apply(
            item.metadata.name,
            {"status": msgspec.to_builtins(found)},
            namespace=item.metadata.namespace,
            subresource="status",
            force=True,
        )
        notes.status_at = steady
        if scaled:
            self._acts.tell_set(item, "Scaled", f"from {was} to {view.wanted} servers: {scaled[1]}")
        self._tell_edges(item, found)
        return None

    def _tell_edges(self, item: GameServerSet, found: GameServerSetStatus) -> None:
        """Write an event where a condition that people must know of begins."""
        known = {one.type: one.status for one in (item.status.conditions if item.status else ())}
        for one in found.conditions:
            begins = one.status == "True" and known.get(one.type) != "True"
            if begins and one.type in ("UpdateStalled", "ReplicasOwnedElsewhere", "Degraded"):
                self._acts.tell_set(item, one.type, one.message, warning=True)
        if item.status and item.status.update_revision not in ("", found.update_revision):
            note = f"to {found.update_revision}"
            self._acts.tell_set(item, "UpdateBegan", note)

    def _players(self, servers: Sequence[Server]) -> dict[str, int]:
        heard = {one.name: self._world.registry.sighting(one.name) for one in servers}
        return {name: one.load.players for name, one in heard.items() if one}

    def _measure(self, name: str, servers: Sequence[Server], wanted: int) -> None:
        phases = Counter(one.phase for one in servers)
        for phase in USUAL:
            metrics.OPERATOR_SERVERS.labels(name, phase).set(phases.get(phase, 0))
        metrics.OPERATOR_WANTED.labels(name).set(wanted)

    def _next(self, planned: Plan, notes: Notes, again_s: float | None) -> float:
        """Return when the passing of time alone may change something."""
        waits = [IDLE_LOOK_S, *([again_s] if again_s is not None else [])]
        if planned.look_again is not None:
            waits.append(max(0.0, planned.look_again - self._clock.now()))
        held_s = notes.slow.held_until - self._clock.monotonic()
        if planned.limited and not planned.creates:
            waits.append(max(1.0, held_s))
        if planned.creates or planned.retires or planned.drains:
            waits.append(1.0)
        return min(waits)


def _number(version: str) -> int:
    return int(version or 0)


def _terminating(seen: Server) -> Server:
    return replace(seen, phase="Terminating")


def _stray(pod: Pod) -> Server:
    """A pod whose server is gone still has its number."""
    name = pod.metadata.name
    number = name.rpartition("-")[2]
    ordinal = int(number) if number.isdigit() else -1
    return Server(name=name, ordinal=ordinal, revision="", phase="Terminating")
