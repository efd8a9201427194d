"""The embedded stack: every process of a plan, started in order, watched, restarted, drained.

    async with Stack(plan.Wish(data_dir=path)) as stack:
        stack.url                       # the page and the gRPC-Web calls
        stack.kill("room-state-1")      # SIGKILL; it comes back with back-off
        await stack.wait_ready("room-state-1")

`rallypoint up`, the benches and the tests use this one class. Entering raises `datadir.Refused`
with nothing left running; leaving drains in the order of `plan.stop_order` and waits for everybody.
Each child has one task, which starts it when what it needs is ready, and again when it dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from rallypoint.cli import broker_plan, child, datadir, plan, ports, probes
from rallypoint.kit import addresses, waiting

START_S = 20.0
DRAIN_S = 12.0

What = Literal["starting", "ready", "died", "restarting", "stopping", "stopped"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a process."""

    name: str
    what: What
    detail: str = ""
    after_s: float = 0.0


@dataclass(slots=True)
class Seat:
    """A process of the plan and the child that fills it now."""

    plan: plan.Process
    ready: asyncio.Event
    child: child.Child | None = None
    deaths: int = 0
    restarts: int = 0
    hold: bool = False


def silent(_: Event) -> None:
    """Nobody is told."""


async def settled(event: asyncio.Event, *, progress: Callable[[], int]) -> bool:
    """Wait for the event; False when `progress` stood still for START_S, however long it took.

    A machine that is slow starts everything in the end; one process that hangs holds up the rest.
    """
    while not event.is_set():
        before = progress()
        await waiting.happens(event, START_S)
        if progress() == before:
            return event.is_set()
    return True


class Stack:
    """The processes of one `up`. Use as an async context manager."""

    def __init__(
        self,
        wish: plan.Wish,
        *,
        fresh: bool = False,
        tell: Callable[[Event], None] = silent,
        cpus: Iterable[int] = (),
    ) -> None:
        self.wish = wish
        self.start_s: dict[str, float] = {}
        self.stack_s = 0.0
        self._fresh = fresh
        self._tell = tell
        self._cpus = frozenset(cpus)
        self._seats: dict[str, Seat] = {}
        self._ports = plan.Ports(by_name={})
        self._files = contextlib.ExitStack()
        self._open = contextlib.AsyncExitStack()
        self._keepers: list[asyncio.Task[None]] = []
        self._settled = asyncio.Event()
        self._failure: datadir.Refused | None = None
        self._asked = asyncio.Event()
        self._stopping = False
        self._forced = False

    async def __aenter__(self) -> Self:
        began_s = time.monotonic()
        try:
            self._prepare()
            await self._start()
        except BaseException:
            await self._stop()
            self._files.close()
            raise
        self.stack_s = time.monotonic() - began_s
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._stop()
        finally:
            self._files.close()

    # -- where to reach it

    @property
    def url(self) -> str:
        """The page, and the base of every gRPC-Web call."""
        return f"http://{addresses.joined(self.wish.web_host, self.wish.web_port)}"

    @property
    def nats_url(self) -> str:
        """The bus."""
        return f"nats://{self.wish.broker_host}:{self._ports['nats']}"

    @property
    def redis_url(self) -> str:
        """The store."""
        return f"redis://{self.wish.broker_host}:{self._ports['redis']}/0"

    @property
    def names(self) -> tuple[str, ...]:
        """The processes, in the order of the plan."""
        return tuple(self._seats)

    def address(self, listener: str) -> str:
        """Host and port of a listener: `gateway-1/native`, `fleet/grpc`, `room-state-1/metrics`."""
        seat = self._seats.get(listener.partition("/")[0])
        return f"{seat.plan.host if seat else plan.LOCALHOST}:{self._ports[listener]}"

    def pid(self, name: str) -> int:
        """The process id of a child; 0 while it is down."""
        running = self._seats[name].child
        return running.pid if running is not None and running.alive else 0

    def restarts(self, name: str) -> int:
        """How often a child was started again."""
        return self._seats[name].restarts

    def is_ready(self, name: str) -> bool:
        """Whether a child answered that it is ready since its last start."""
        return self._seats[name].ready.is_set()

    def log(self, name: str) -> str:
        """The present log of a child."""
        path = datadir.logs(self.wish.data_dir) / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    async def status(self, name: str) -> dict[str, object]:
        """What a service says about itself (/statusz); empty when it does not."""
        seat = self._seats[name]
        if seat.plan.probe != "http":
            return {}
        return await probes.statusz(seat.plan.port, host=seat.plan.host)

    # -- what a test does to it

    def kill(
        self, name: str, *, number: signal.Signals = signal.SIGKILL, for_good: bool = False
    ) -> None:
        """Signal a child; the stack starts it again when it dies of it, unless that is for good
        (then `release` does)."""
        seat = self._seats[name]
        seat.hold |= for_good
        if seat.child is not None:
            if number in (signal.SIGKILL, signal.SIGTERM):
                seat.ready.clear()
            seat.child.signal(number)

    async def restart(self, name: str) -> None:
        """Stop a child as a deploy would, and wait until it is ready again."""
        await self.hold(name)
        await self.release(name)

    async def hold(self, name: str) -> None:
        """Stop a child and keep it down until `release`."""
        seat = self._seats[name]
        seat.hold = True
        seat.ready.clear()
        if seat.child is not None:
            await seat.child.stop(within_s=DRAIN_S)

    async def release(self, name: str) -> None:
        """Start a held child again and wait until it is ready."""
        self._seats[name].hold = False
        await self.wait_ready(name)

    async def wait_ready(self, name: str, *, within_s: float = START_S) -> None:
        """Wait until a child is ready; TimeoutError when it takes too long."""
        async with asyncio.timeout(within_s):
            await self._seats[name].ready.wait()

    # -- the end

    @property
    def is_asked(self) -> bool:
        """Whether somebody asked it to stop."""
        return self._asked.is_set()

    def ask_stop(self) -> None:
        """Ask whoever waits in `wait_asked` to leave; while starting, give up."""
        self._asked.set()
        if not self._settled.is_set():
            self._failure = datadir.Refused("stopped before everything was ready")
            self._settled.set()

    async def wait_asked(self, *, at_most_s: float | None = None) -> None:
        """Wait until asked to stop, or for `at_most_s`."""
        await waiting.happens(self._asked, at_most_s)

    def force(self) -> None:
        """Do not wait for a drain any more: kill what is left."""
        self._forced = True
        for seat in self._seats.values():
            if seat.child is not None:
                seat.child.signal(signal.SIGKILL)

    # -- start

    def _prepare(self) -> None:
        """Everything that can refuse, before anything starts."""
        broker_plan.refuse_missing()
        ports.refuse_taken(self.wish.web_host, self.wish.web_port)
        directory = self._files.enter_context(datadir.opened(self.wish.data_dir, fresh=self._fresh))
        datadir.write_queues(directory, self.wish.queues)
        self._ports = ports.free(plan.listeners(self.wish), besides=self.wish.web_port)
        found = plan.plan(
            self.wish,
            self._ports,
            keys=datadir.keys(directory),
            brokers=broker_plan.processes(directory, self._ports, host=self.wish.broker_host),
        )
        self._seats = {p.name: Seat(plan=p, ready=asyncio.Event()) for p in found}

    async def _start(self) -> None:
        """Start everything; the first child that cannot start is the reason to give up."""
        group = await self._open.enter_async_context(asyncio.TaskGroup())
        self._keepers = [
            group.create_task(self._keep(seat), name=f"keep-{name}")
            for name, seat in self._seats.items()
        ]
        if not await settled(self._settled, progress=lambda: len(self.start_s)):
            self._failure = datadir.Refused(self._not_ready())
        if self._failure is not None:
            raise self._failure

    def _not_ready(self) -> str:
        late = [n for n, seat in self._seats.items() if not seat.ready.is_set() and seat.child]
        where = datadir.logs(self.wish.data_dir.absolute())
        return f"{', '.join(late)} did not become ready in {START_S:g} s: see the logs in {where}"

    async def _keep(self, seat: Seat) -> None:
        """The life of one place in the plan: wait for what it needs, run, run again."""
        await self._wait_needs(seat)
        while not self._stopping:
            if seat.hold:
                await asyncio.sleep(probes.POLL_S)
                continue
            began_s = time.monotonic()
            await self._run_once(seat)
            if self._failure is not None:
                return
            if self._stopping or seat.hold:
                continue
            seat.deaths = 1 if time.monotonic() - began_s >= plan.STEADY_S else seat.deaths + 1
            pause_s = plan.backoff_s(seat.deaths)
            seat.restarts += 1
            self._tell(Event(seat.plan.name, "restarting", f"in {pause_s:g} s"))
            await asyncio.sleep(pause_s)

    async def _wait_needs(self, seat: Seat) -> None:
        for other in self._seats.values():
            if other.plan.kind in seat.plan.needs:
                await other.ready.wait()

    async def _run_once(self, seat: Seat) -> None:
        """Start the child, find out when it is ready, and return when it has ended."""
        name = seat.plan.name
        log = datadir.fresh_log(self.wish.data_dir.absolute(), name)
        self._tell(Event(name, "starting"))
        seat.child = await child.start(seat.plan, log=log, cpus=self._cpus)
        if self._forced or self._stopping:
            seat.child.signal(signal.SIGKILL)
        ended = asyncio.ensure_future(seat.child.wait())
        await self._until_ready(seat, ended)
        code = await ended
        first_start = name not in self.start_s
        seat.ready.clear()
        if self._stopping or seat.hold:
            return
        self._tell(Event(name, "died", _how(code)))
        if first_start and not self._settled.is_set():
            tail = datadir.log_tail(log)
            text = f"{name} ended before it was ready ({_how(code)}): see {log}\n{tail}"
            self._failure = datadir.Refused(text)
            self._settled.set()

    async def _until_ready(self, seat: Seat, ended: asyncio.Future[int]) -> None:
        running = seat.child
        assert running is not None
        while not ended.done():
            if await probes.is_ready(seat.plan) and not ended.done():
                running.ready_s = time.monotonic() - running.started_s
                self.start_s.setdefault(seat.plan.name, running.ready_s)
                seat.ready.set()
                self._note_state()
                self._tell(Event(seat.plan.name, "ready", after_s=running.ready_s))
                if all(other.ready.is_set() for other in self._seats.values()):
                    self._settled.set()
                return
            await asyncio.sleep(probes.POLL_S)

    def _note_state(self) -> None:
        pids = {name: self.pid(name) for name in self._seats}
        datadir.write_state(
            self.wish.data_dir.absolute(),
            {name: pid for name, pid in pids.items() if pid},
            facts={
                "url": self.url,
                "nats_url": self.nats_url,
                "redis_url": self.redis_url,
                "fleet": self.address("fleet/grpc"),
                "native": f"grpc://{self.address('gateway-1/native')}",
            },
        )

    # -- stop

    async def _stop(self) -> None:
        """Drain in order, then make sure that nothing of ours runs."""
        self._stopping = True
        for group in plan.stop_order(seat.plan for seat in self._seats.values()):
            async with asyncio.TaskGroup() as stopping:
                for name in group:
                    stopping.create_task(self._stop_one(self._seats[name]), name=f"stop-{name}")
        for keeper in self._keepers:
            keeper.cancel()
        await self._open.aclose()
        for seat in self._seats.values():
            if seat.child is not None and seat.child.alive:
                await seat.child.stop(within_s=0.0)

    async def _stop_one(self, seat: Seat) -> None:
        running = seat.child
        if running is None or not running.alive:
            return
        self._tell(Event(seat.plan.name, "stopping"))
        began_s = time.monotonic()
        # Everything ends: rooms are to end with their nodes, not to wait for a place elsewhere.
        number = signal.SIGINT if seat.plan.kind == "room-state" else signal.SIGTERM
        await running.stop(within_s=0.0 if self._forced else DRAIN_S, number=number)
        self._tell(Event(seat.plan.name, "stopped", after_s=time.monotonic() - began_s))


def _how(code: int) -> str:
    """An exit code in words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
