"""What a user typed wrong is one sentence and an exit code, never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


def _typed(*words: str, **environment: str) -> tuple[int, list[str]]:
    ended = subprocess.run(
        [sys.executable, "-m", "rallypoint", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stderr.splitlines()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LOG_LEVEL", "loud"),
        ("TRACE_RATIO", "7"),
        ("GRPC_PORT", "99999"),
        ("DRAIN_S", "soon"),
        ("NATS_URL", "garbage"),
        ("REDIS_URL", "garbage"),
        ("GRPC_CERT_FILE", "absent.pem"),
    ],
)
def test_bad_setting_of_a_service_is_one_sentence(variable: str, value: str) -> None:
    code, lines = _typed("fleet", **{f"RALLYPOINT_{variable}": value})
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("rallypoint fleet: RALLYPOINT_")


@pytest.mark.parametrize("bench", ["start", "rooms"])
def test_bench_whose_stack_cannot_start_tells_why_in_a_sentence(tmp_path: Path, bench: str) -> None:
    # No service starts with this level: the stack gives up, and shows what the service said.
    code, lines = _typed("bench", bench, RALLYPOINT_LOG_LEVEL="loud", TMPDIR=str(tmp_path))
    assert code == 1
    assert lines[0].startswith("rallypoint bench")
    assert "RALLYPOINT_LOG_LEVEL is 'loud'" in lines[-1]
    assert len(lines) == 2


@pytest.mark.parametrize("command", ["version", "licenses"], ids=["one line", "many"])
def test_reader_who_has_seen_enough_ends_a_command_without_a_word(command: str) -> None:
    words = [sys.executable, "-m", "rallypoint", command]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (128 + signal.SIGPIPE, b"")
