"""`rallypoint up`: the whole backend on this machine, with real brokers, until Ctrl-C.

First everything that could go wrong is checked; then the processes start in order, each when what
it needs is ready; then a live table (on a terminal) or a line per event. Ctrl-C or SIGTERM drains
in order and leaves nothing running; a second one kills what is left. Exit code 0 after a drain, 1
when something refused to start, with one sentence saying what and what to do.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from rallypoint.cli import child, datadir, numbers, plan, queues, stack, up_view

REFRESH_S = 1.0
NEWS = 6


def run(arguments: list[str]) -> int:
    """Run until asked to stop; the result is the exit code."""
    parsed = parser().parse_args(arguments)
    try:
        wish = wish_of(parsed)
        return asyncio.run(_up(wish, fresh=parsed.fresh))
    except (datadir.Refused, queues.QueueError) as error:
        print(f"rallypoint up: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """The options of `up`."""
    found = argparse.ArgumentParser(
        prog="rallypoint up", description="Start everything on this machine and show it."
    )
    found.add_argument("--host", default="127.0.0.1", help="address of the page (%(default)s)")
    port, processes = numbers.whole(1, 65_535), numbers.whole(1, 64)
    found.add_argument("--port", type=port, default=8080, help="port of the page (%(default)s)")
    found.add_argument(
        "--room-nodes", type=processes, default=1, metavar="N", help="room processes (%(default)s)"
    )
    found.add_argument(
        "--gateways", type=processes, default=1, metavar="N", help="gateways (%(default)s)"
    )
    found.add_argument(
        "--queue",
        action="append",
        metavar="NAME|JSON",
        help='an installed game, or a document such as {"queue": "duel", "game": "skirmish", '
        '"max_players": 2}; may be repeated (every installed game)',
    )
    found.add_argument(
        "--data-dir", type=Path, default=Path(".rallypoint"), help="files (%(default)s)"
    )
    found.add_argument(
        "--fresh", action="store_true", help="forget all earlier matches and tickets"
    )
    bots = numbers.whole(0)
    found.add_argument(
        "--bots", type=bots, default=0, metavar="N", help="bots that play the first queue (none)"
    )
    found.add_argument("--web-root", type=Path, default=None, help="the built web client")
    return found


def wish_of(parsed: argparse.Namespace) -> plan.Wish:
    """The wish of a command line; QueueError for a bad queue."""
    return plan.Wish(
        data_dir=parsed.data_dir.absolute(),
        web_host=parsed.host,
        web_port=parsed.port,
        room_nodes=parsed.room_nodes,
        gateways=parsed.gateways,
        queues=queues.documents(parsed.queue or ()),
        bots=parsed.bots,
        web_root=_web_root(parsed.web_root),
    )


def _web_root(asked: Path | None) -> Path | None:
    """The built web client: the one asked for, else that of the checkout we run from."""
    if asked is not None:
        if not (asked / "index.html").is_file():
            raise datadir.Refused(f"{asked} has no index.html: build the web client there first")
        return asked.absolute()
    built = Path(__file__).resolve().parents[3] / "clients" / "web" / "dist"
    return built if (built / "index.html").is_file() else None


async def _up(wish: plan.Wish, *, fresh: bool) -> int:
    news: collections.deque[str] = collections.deque(maxlen=NEWS)
    live = up_view.is_terminal()
    shown = False  # the table is on the screen and tells the news itself

    def tell(event: stack.Event) -> None:
        news.append(up_view.line(event))
        if not shown:
            up_view.say(up_view.line(event))

    if wish.web_root is None:
        up_view.say("no page: the web client is not built (`make web`); calls work without it")
    running = stack.Stack(wish, fresh=fresh, tell=tell)
    _on_signals(running)
    async with running:
        await _greet(running)
        shown = live
        await (_show_table(running, news) if live else running.wait_asked())
        shown = False
        up_view.say("stopping in order (Ctrl-C again: at once)")
    up_view.say("stopped: nothing is left running")
    return 0


def _on_signals(running: stack.Stack) -> None:
    """The first signal asks for a drain, the next ends it."""
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if running.is_asked:
            running.force()
        running.ask_stop()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, asked)


async def _greet(running: stack.Stack) -> None:
    backends = {(await running.status(name)).get("backend") for name in running.names}
    said = ", ".join(sorted(str(backend) for backend in backends if backend)) or "unknown"
    logs = datadir.logs(running.wish.data_dir)
    up_view.say(f"ready in {running.stack_s:.1f} s: {running.url}")
    if running.wish.web_root is not None:
        token = datadir.admin_secret(running.wish.data_dir)
        up_view.say(f"for operators: {running.url}/operator#{token}")
    up_view.say(f"gateway backend: {said}; logs in {logs}; Ctrl-C stops")


async def _show_table(running: stack.Stack, news: Iterable[str]) -> None:
    """Refresh the table each second until asked to stop."""
    from rich.live import Live

    with Live(auto_refresh=False, transient=True) as screen:
        while not running.is_asked:
            heading = f"Rallypoint  {running.url}"
            rows = await _rows(running)
            screen.update(up_view.table(rows, heading=heading, news=list(news)), refresh=True)
            await running.wait_asked(at_most_s=REFRESH_S)


async def _rows(running: stack.Stack) -> list[up_view.Row]:
    statuses = await asyncio.gather(*(running.status(name) for name in running.names))
    return [
        up_view.Row(
            name=name,
            pid=running.pid(name),
            ready=running.is_ready(name) and status.get("ready") is not False,
            restarts=running.restarts(name),
            rss_bytes=child.usage(running.pid(name)).rss_bytes if running.pid(name) else 0,
            status=status,
        )
        for name, status in zip(running.names, statuses, strict=True)
    ]
