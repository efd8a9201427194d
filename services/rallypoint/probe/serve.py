"""Put the probe together and run it until SIGTERM: attach, give up every right, then listen."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Final

from rallypoint.kit.settings import SettingsError
from rallypoint.probe import config, exporter, owners, reading, rights, session, source, updating
from rallypoint.probe.domain import health

if TYPE_CHECKING:
    from rallypoint.probe import cluster as cluster_module

logger = logging.getLogger(__name__)

NO_FOLDER: Final = "/no cgroup hierarchy"
"""Tells why calls are not followed where there is none."""


@contextmanager
def opened(settings: config.Settings, *, adopt: bool) -> Iterator[reading.Reading]:
    """A reading of the best source that there is; detached afterwards."""
    tree = owners.Owners(owners.find_root(settings.probe_cgroup_root))
    tree.refresh()
    wish = config.wanted(settings, pods_root=tree.pods_root, adopt=adopt)
    if settings.probe_calls:
        folder = tree.root if wish.config.every_cgroup else tree.pods_folder
        wish = replace(wish, calls_cgroup=str(folder or NO_FOLDER))
    whole = wish.config.every_cgroup and wish.config.every_port
    found = source.open_best(wish)
    try:
        yield reading.Reading(found, tree, whole=whole)
    finally:
        found.close()


@contextmanager
def named(
    settings: config.Settings, read: reading.Reading
) -> Iterator[cluster_module.Cluster | None]:
    """Have the series told by the names of their pods, where there is a cluster to ask."""
    if not config.in_cluster(settings, os.environ):
        yield None
        return
    from rallypoint.probe import cluster  # 24 MB that only they pay who use it

    try:
        known = cluster.from_environment(os.environ, config.node_name(settings))
    except SettingsError as error:
        if settings.probe_kubernetes == "on":
            raise
        logger.warning("pods have no names: %s", error)  # a pod without an account, say
        yield None
        return
    read.names = known.directory.of
    known.start()
    try:
        yield known
    finally:
        known.stop()


def serve(settings: config.Settings, told: Callable[[str], None]) -> int:
    """Run; the exit code. `told` gets the lines for whoever started it."""
    with ExitStack() as stack:
        read = stack.enter_context(opened(settings, adopt=settings.probe_adopt_s > 0))
        rights.keep_only(frozenset())
        known = stack.enter_context(named(settings, read))
        reason = f" ({read.source.reason})" if read.source.reason else ""
        told(f"mode {read.source.mode}{reason}")
        listener = _listener(settings, told)
        running = exporter.Exporter(
            read, listener, _push(settings), _update(settings, read.source),
            known.points if known else list,
            _judge(settings, read, known) if known and settings.probe_conditions else None,
        )  # fmt: skip
        over = partial(_adopt_no_more, read.source)
        timer = threading.Timer(settings.probe_adopt_s, running.order, (over,))
        timer.daemon = True
        timer.start()

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            running.stop()

        def on_level(_number: int, _frame: FrameType | None, *, full: bool) -> None:
            running.order(partial(_set_level, read.source, full=full))

        for number, full in ((signal.SIGUSR1, False), (signal.SIGUSR2, True)):
            signal.signal(number, partial(on_level, full=full))
        signal.signal(signal.SIGHUP, lambda _number, _frame: running.update())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        running.run()
        timer.cancel()
        if listener is not None:
            listener.close()
    return 0


def _judge(
    settings: config.Settings, read: reading.Reading, known: cluster_module.Cluster
) -> Callable[[], None]:
    """At the end of each window have the servers say how their network is."""
    judge = health.Health(config.limits(settings))

    def attend() -> None:
        now = time.monotonic()
        if not judge.due(now):
            return
        for uid, opinion in judge.look(read.series(), now).items():
            if not known.tell(uid, opinion):
                judge.forget(uid)

    return attend


def _update(settings: config.Settings, found: source.Source) -> updating.Updating:
    swappable = found if isinstance(found, session.Session) else None
    return updating.Updating(
        swappable if settings.probe_hot_update else None,
        percent=settings.probe_canary_percent,
        seconds=settings.probe_canary_s,
    )


def _adopt_no_more(found: source.Source) -> None:
    if isinstance(found, session.Session):
        found.configure(replace(found.config, adopt=False))


def _set_level(found: source.Source, *, full: bool) -> None:
    if isinstance(found, session.Session):
        found.set_level(full=full)


def _listener(settings: config.Settings, told: Callable[[str], None]) -> socket.socket | None:
    if settings.probe_port < 0:
        return None
    listener = socket.create_server((settings.probe_host, settings.probe_port))
    told(f"metrics http://{settings.probe_host}:{listener.getsockname()[1]}/metrics")
    return listener


def _push(settings: config.Settings) -> exporter.Push:
    resource = {"k8s.node.name": config.node_name(settings)}
    return exporter.Push(settings.probe_otlp_endpoint, settings.probe_push_s, resource)
