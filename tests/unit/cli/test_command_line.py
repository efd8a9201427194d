"""The command line: what is refused, what helps."""

from __future__ import annotations

import socket
import subprocess
import sys
from importlib import metadata

import pytest

from rallypoint.cli import datadir, main, ports, up


@pytest.mark.parametrize("command", [c for c in main.COMMANDS if c not in main.SERVICES])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main([command, "--help"])
    assert ended.value.code == 0
    assert f"rallypoint {command}" in capsys.readouterr().out


@pytest.mark.parametrize("name", main.SERVICES)
def test_a_service_names_its_settings(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main([name, "--help"])
    assert "RALLYPOINT_NATS_URL=nats://127.0.0.1:4222\n" in capsys.readouterr().out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["--help"])
    shown = capsys.readouterr().out
    assert all(command in shown for command in main.COMMANDS)


@pytest.mark.parametrize("word", ["version", "--version"])
def test_the_version_is_told(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([word]) == 0
    assert capsys.readouterr().out == f"{metadata.version('rallypoint')}\n"


def test_unknown_command_is_refused() -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["nosuch"])
    assert ended.value.code == 2


def test_the_command_line_imports_no_service() -> None:
    code = "import sys, rallypoint.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"grpc", "numpy", "rich", "nats", "redis", "google.protobuf"}


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--room-nodes", "0"], "whole number from 1 to 64, not '0'"),
        (["--gateways", "x"], "whole number from 1 to 64, not 'x'"),
        (["--port", "web"], "whole number from 1 to 65535, not 'web'"),
        (["--port", "80000"], "whole number from 1 to 65535, not '80000'"),
        (["--bots", "-1"], "whole number, 0 or more, not '-1'"),
    ],
    ids=["no-node", "not-a-number", "not-a-port", "no-such-port", "less-than-none"],
)
def test_up_refuses_senseless_numbers(
    arguments: list[str], wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        up.run(arguments)
    assert ended.value.code == 2
    assert f"must be a {wanted}" in capsys.readouterr().err


def test_taken_port_is_refused_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(datadir.Refused, match=f"port {port} .* is in use.*--port"):
            ports.refuse_taken("127.0.0.1", port)


@pytest.mark.parametrize("host", ["::1%nowhere", "no.such.host.invalid", "192.0.2.1"])
def test_host_of_no_interface_is_refused_with_the_remedy(host: str) -> None:
    with pytest.raises(datadir.Refused, match=f"port 8080 on {host} cannot be used .*--host"):
        ports.refuse_taken(host, 8080)


def test_free_ports_differ() -> None:
    found = ports.free(tuple("abcdefgh"))
    assert len(set(found.by_name.values())) == 8
