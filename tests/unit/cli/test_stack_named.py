"""Which stack a command means, wherever its options stand, and who is shown which secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from rallypoint.cli import config, datadir, main, rooms


@pytest.mark.parametrize(
    "words",
    [["--data-dir", "x", "ls"], ["ls", "--data-dir", "x"]],
    ids=["before", "behind"],
)
def test_the_stack_is_named_on_either_side_of_the_subcommand(words: list[str]) -> None:
    assert rooms.parser().parse_args(words).data_dir == Path("x")
    again = [word.replace("ls", "get") for word in words]
    assert config.parser().parse_args(again).data_dir == Path("x")


def test_a_stack_that_nobody_names_is_the_one_here() -> None:
    assert rooms.parser().parse_args(["ls"]).data_dir == Path(".rallypoint")
    assert rooms.parser().parse_args(["ls", "--url", "http://there"]).url == "http://there"


def test_no_other_gateway_is_shown_the_secret_of_a_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(rooms.TOKEN, raising=False)
    datadir.keys(tmp_path)
    here = ["--data-dir", str(tmp_path), "ls"]
    with pytest.raises(datadir.Refused, match=rooms.TOKEN):
        rooms.gateway(rooms.parser().parse_args([*here, "--url", "http://there"]))
    datadir.write_state(tmp_path, {}, facts={"url": "http://here"})
    found = rooms.gateway(rooms.parser().parse_args(here))
    assert found == ("http://here", datadir.admin_secret(tmp_path))
    monkeypatch.setenv(rooms.TOKEN, "theirs")
    elsewhere = rooms.parser().parse_args([*here, "--url", "http://there"])
    assert rooms.gateway(elsewhere) == ("http://there", "theirs")


@pytest.mark.parametrize("command", [["rooms", "ls"], ["replay", "--list"], ["config", "get"]])
def test_without_a_stack_a_command_says_that_none_runs(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main([*command, "--data-dir", str(tmp_path)]) == 1
    assert "no `rallypoint up` runs" in capsys.readouterr().err
