"""One bootstrap for every service.

`run` sets up uvloop, JSON logs, tracing, the health and metrics port, signals and brokers, calls
the service's `main(settings, runtime)`, and ends in a designed order: stopping is set (first
SIGTERM or SIGINT) ▸ main says not ready, drains within `drain_s` and returns ▸ spawned tasks are
cancelled ▸ brokers, HTTP and tracing are closed. SIGTERM means that this process alone ends (a
deploy), SIGINT that everything does. A second signal exits at once with 130. A spawned
task that raises ends the process with 1: whoever runs us restarts us, half a process serves nobody.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from rallypoint.kit import errors, logs, names, security, telemetry
from rallypoint.kit import health as health_module
from rallypoint.kit.clock import Clock, SystemClock
from rallypoint.kit.health import Health
from rallypoint.kit.security import Security, SecuritySettings
from rallypoint.kit.settings import SettingsError

if TYPE_CHECKING:
    from rallypoint.kit.bus import Bus
    from rallypoint.kit.store import Store

logger = logging.getLogger(__name__)

T = TypeVar("T")
_CONNECT_RETRY_S = 0.1
_CONNECT_RETRY_MAX_S = 1.0
_AFTER_DRAIN_S = 5.0
_LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """What every process is told. A service's settings hold it in a field named `runtime`."""

    instance: str = ""
    """The stable name of this process, such as gateway-1; empty: the service's name and -1."""
    nats_url: str = "nats://127.0.0.1:4222"
    nats_replicas: int = 1
    """On how many servers of a NATS cluster streams and buckets are kept: 1, 3 or 5."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    otlp_endpoint: str = ""
    """Where telemetry goes (OTLP/gRPC, host:port); empty: nowhere, `/metrics` and standard error
    are there all the same."""
    otlp_signals: tuple[str, ...] = ("traces", "metrics", "logs")
    """What is sent there."""
    otlp_metrics_every_s: float = 15.0
    trace_ratio: float = 1.0
    """The share of traces that are recorded, 0 to 1; the gateway decides for those of clients."""
    environment: str = "development"
    """Outside `development`, gRPC reflection is off."""
    data_dir: Path = Path(".rallypoint")
    log_level: str = "info"
    grpc_host: str = "127.0.0.1"
    grpc_port: int = 9090
    """The internal gRPC server; 0: any free port."""
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9400
    """Health and metrics over HTTP; 0: any free port."""
    drain_s: float = 10.0
    """How long a service may finish its work after the first signal."""
    incarnation: str = ""
    """The nonce of this process; empty: made at start."""
    security: SecuritySettings = field(default_factory=SecuritySettings)
    """Logins, certificates and keys; without them all is plaintext."""


class HasRuntime(Protocol):
    """A service's settings."""

    @property
    def runtime(self) -> RuntimeSettings:
        """Return the part every process has."""


S = TypeVar("S", bound=HasRuntime)


class Runtime:
    """What a running process has. `bus` and `store` are there, connected, if it asked for them."""

    bus: Bus
    store: Store

    def __init__(
        self,
        name: str,
        settings: RuntimeSettings,
        tasks: asyncio.TaskGroup,
        *,
        clock: Clock | None = None,
        access: Security | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self.tasks = tasks
        self.clock = clock or SystemClock()
        self.health = Health(name)
        self.stopping = asyncio.Event()
        self.handing_over = False
        """Asked to stop by SIGTERM: what runs here goes on elsewhere. Else it ends with us."""
        self.incarnation = settings.incarnation
        self.access = access or Security()
        self.metrics_port = 0
        self._spawned: set[asyncio.Task[Any]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Run a named task in the process's group; it is cancelled when main has returned."""
        task = self.tasks.create_task(coroutine, name=name)
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)
        return task

    async def wait_stopping(self) -> None:
        """Return once the process was asked to stop."""
        await self.stopping.wait()

    def cancel_spawned(self) -> None:
        """Cancel what `spawn` started; the end of a process."""
        for task in tuple(self._spawned):
            task.cancel()


def completed(name: str, settings: RuntimeSettings) -> RuntimeSettings:
    """Return the settings with the instance and the incarnation filled in; SettingsError if bad."""
    if settings.log_level.lower() not in _LOG_LEVELS:
        raise SettingsError(
            f"RALLYPOINT_LOG_LEVEL is {settings.log_level!r}: set it to {', '.join(_LOG_LEVELS)}"
        )
    if not 0.0 <= settings.trace_ratio <= 1.0:
        raise SettingsError(
            f"RALLYPOINT_TRACE_RATIO is {settings.trace_ratio}: set it to a number from 0 to 1"
        )
    if unknown := set(settings.otlp_signals) - {"traces", "metrics", "logs"}:
        raise SettingsError(
            f"RALLYPOINT_OTLP_SIGNALS names {', '.join(sorted(unknown))}: "
            "there are traces, metrics and logs"
        )
    if settings.otlp_metrics_every_s < 0.1:
        raise SettingsError("RALLYPOINT_OTLP_METRICS_EVERY_S is below 0.1: make it longer")
    return dataclasses.replace(
        settings,
        instance=settings.instance or f"{name}-1",
        incarnation=settings.incarnation or names.new_id(),
    )


def run(
    name: str,
    settings: S,
    main: Callable[[S, Runtime], Awaitable[None]],
    *,
    needs: Collection[str] = ("bus",),
) -> int:
    """Run a service until it is asked to stop; return the exit code.

    `needs` holds "bus" and "store": the brokers main finds connected. Raises SettingsError, before
    anything starts, when one of ours cannot be used.
    """
    import uvloop  # 20 ms that the CLI's other commands need not pay

    base = completed(name, settings.runtime)
    access = security.load(base.security, nats_url=base.nats_url, redis_url=base.redis_url)
    if access.grpc is not None:
        from rallypoint.kit import rpc  # gRPC: paid by those who need it

        rpc.secure(access.grpc)
    logs.setup(name, base.instance, base.log_level)
    telemetry.setup(
        endpoint=base.otlp_endpoint,
        service=name,
        instance=base.instance,
        environment=base.environment,
        ratio=base.trace_ratio,
        signals=base.otlp_signals,
        metrics_every_s=base.otlp_metrics_every_s,
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_process(name, base, access, settings, main, needs))
    except KeyboardInterrupt:
        return 130
    finally:
        telemetry.shutdown()


async def _process(
    name: str,
    base: RuntimeSettings,
    access: Security,
    settings: S,
    main: Callable[[S, Runtime], Awaitable[None]],
    needs: Collection[str],
) -> int:
    try:
        async with asyncio.TaskGroup() as tasks:
            runtime = Runtime(name, base, tasks, access=access)
            _on_signals(runtime)
            try:
                await _serve(runtime, settings, main, needs)
            finally:
                runtime.cancel_spawned()
    except BaseExceptionGroup as group:
        expected, bugs = group.split((errors.RallypointError, SettingsError))
        for error in _leaves(expected):
            logger.critical("process_failed", extra={"reason": str(error)})
        if bugs:
            logger.critical("process_failed", exc_info=bugs)
        return 1
    logger.info("stopped")
    return 0


def _leaves(group: BaseExceptionGroup[Any] | None) -> Iterator[BaseException]:
    for error in group.exceptions if group is not None else ():
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _serve(
    runtime: Runtime,
    settings: S,
    main: Callable[[S, Runtime], Awaitable[None]],
    needs: Collection[str],
) -> None:
    base = runtime.settings
    try:
        http, runtime.metrics_port = await health_module.serve(
            runtime.health, base.metrics_host, base.metrics_port
        )
    except OSError as error:
        where = f"{base.metrics_host}:{base.metrics_port}"
        raise errors.Unavailable("PORT_IN_USE", f"cannot listen on {where}: {error}") from error
    try:
        if await _connect(runtime, needs):
            await _main_until_stopped(runtime, settings, main)
    finally:
        await _close(runtime)
        http.close()


async def _main_until_stopped(
    runtime: Runtime, settings: S, main: Callable[[S, Runtime], Awaitable[None]]
) -> None:
    """Run main; once stopping is set it has `drain_s` and a margin, then it is cancelled."""
    logger.info("starting", extra={"incarnation": runtime.incarnation})

    async def served() -> None:
        await main(settings, runtime)

    task = runtime.tasks.create_task(served(), name=f"{runtime.name}.main")
    stopping = runtime.tasks.create_task(runtime.wait_stopping(), name="stopping")
    try:
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            limit_s = runtime.settings.drain_s + _AFTER_DRAIN_S
            _, late = await asyncio.wait((task,), timeout=limit_s)
            if late:
                logger.error("drain_too_slow", extra={"limit_s": limit_s})
    finally:
        task.cancel()
        stopping.cancel()
    runtime.health.set_ready(False)


async def _connect(runtime: Runtime, needs: Collection[str]) -> bool:
    """Connect the brokers asked for, retrying; False when asked to stop meanwhile."""
    wait_s = _CONNECT_RETRY_S
    while not runtime.stopping.is_set():
        try:
            if "bus" in needs and not hasattr(runtime, "bus"):
                await _connect_bus(runtime)
            if "store" in needs and not hasattr(runtime, "store"):
                await _connect_store(runtime)
        except errors.Unavailable as error:
            logger.warning("broker_unavailable", extra={"reason": str(error)})
        else:
            return True
        try:
            async with asyncio.timeout(wait_s):
                await runtime.wait_stopping()
        except TimeoutError:
            wait_s = min(wait_s * 2, _CONNECT_RETRY_MAX_S)
    return False


async def _connect_bus(runtime: Runtime) -> None:
    from rallypoint.kit.bus import Bus  # paid by those who need it

    bus = await Bus.connect(
        runtime.settings.nats_url, name=runtime.settings.instance, access=runtime.access.nats
    )
    try:
        await bus.ensure_topology(replicas=runtime.settings.nats_replicas)
    except BaseException:
        await bus.close()
        raise
    runtime.bus = bus
    runtime.spawn(bus.supervise(), name="bus.supervise")
    runtime.health.status(lambda: {"bus": bus.is_connected})


async def _connect_store(runtime: Runtime) -> None:
    from rallypoint.kit.store import Store  # paid by those who need it

    runtime.store = await Store.connect(runtime.settings.redis_url, access=runtime.access.redis)


async def _close(runtime: Runtime) -> None:
    if hasattr(runtime, "bus"):
        await runtime.bus.close()
    if hasattr(runtime, "store"):
        await runtime.store.close()


def _on_signals(runtime: Runtime) -> None:
    loop = asyncio.get_running_loop()

    def asked(number: signal.Signals) -> None:
        if runtime.stopping.is_set():
            os._exit(130)
        logger.info("stopping", extra={"signal": number.name})
        runtime.handing_over = number is signal.SIGTERM
        runtime.stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, number)
