"""`rallypoint rooms` against a real gateway."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.integration.conftest import Runs
from tests.integration.open_stack import create, open_stack
from tests.support.waiting import until

from rallypoint.cli import datadir
from rallypoint.cli.brokers import Brokers
from rallypoint.gateway.admin_access import AdminSettings

Fresh = Callable[[str], str]


async def rooms(data_dir: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rallypoint", "rooms", "--data-dir", str(data_dir), *words]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False
    )


def test_rooms_are_listed_shown_and_closed(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        keys = datadir.keys(tmp_path)
        admin = AdminSettings(admin_token_file=keys.admin_token_file)
        async with open_stack(brokers, fresh("set"), tmp_path, admin=admin) as stack:
            datadir.write_state(tmp_path, {}, facts={"url": stack.gateway.url})
            ada = await stack.player(fresh("ada"))
            made = await create(ada, "one", "tictactoe")
            hers = await ada.join(made.room_id, made.seat_token)

            listed = await rooms(tmp_path, "ls", "--game", "tictactoe")
            assert listed.returncode == 0, listed.stderr
            (line,) = [line for line in listed.stdout.splitlines() if made.room_id in line]
            assert "1/2" in line
            assert made.code in line
            shown = await rooms(tmp_path, "show", made.room_id)
            assert "CONNECTED" in shown.stdout
            assert "mark  0 0 0 0 0 0 0 0 0" in shown.stdout
            found = json.loads((await rooms(tmp_path, "show", made.room_id, "--json")).stdout)
            assert found["room"]["room_id"] == made.room_id

            wrong = await rooms(tmp_path, "kick", made.room_id, "nobody")
            assert (wrong.returncode, "SEAT_UNKNOWN" in wrong.stderr) == (1, True)
            closed = await rooms(tmp_path, "close", made.room_id, "--reason", "TEST_OVER")
            assert closed.returncode == 0, closed.stderr
            await until(lambda: hers.ended)
            assert hers.controls()[-1] == "CLOSED TEST_OVER"

    runs(scenario())


def test_without_a_stack_it_says_what_to_do(runs: Runs, tmp_path: Path) -> None:
    async def scenario() -> None:
        done = await rooms(tmp_path, "ls")
        assert done.returncode == 1
        assert "--data-dir" in done.stderr
        assert "Traceback" not in done.stderr

    runs(scenario())
