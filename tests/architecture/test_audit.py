"""The audit knows every lock of the checkout, and says so when nobody answers it."""

from __future__ import annotations

import subprocess

import pytest
from tests import audit
from tests.audit import Package

from rallypoint.cli.ports import free_one

LOCKS = ("*package-lock.json", "tests/tools/*/go.mod", "requirements/*.txt", "loadtest/*.txt")
GO = """
module example.dev/tool

go 1.25.0

require example.dev/alone v1.2.0

require (
\texample.dev/taken v0.0.0 // indirect
\texample.dev/kept v2.0.1+incompatible
)

replace example.dev/taken => example.dev/other v0.36.3
"""
NPM = """{"packages": {
  "": {"name": "ours", "version": "1.0.0"},
  "node_modules/a/node_modules/@b/c": {"version": "3.1.4"},
  "node_modules/alias": {"name": "real", "version": "2.0.0"},
  "node_modules/linked": {"link": true}
}}"""


def test_every_lock_is_audited() -> None:
    listed = subprocess.run(
        ["git", "ls-files", *LOCKS], cwd=audit.ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    known = (*audit.PYTHON_LOCKS, *audit.NPM_LOCKS, *audit.GO_LOCKS)
    assert {str(path.relative_to(audit.ROOT)) for path in known} == set(listed)


def test_locks_are_read() -> None:
    assert audit.of_go(GO) == {
        Package("Go", "example.dev/alone", "1.2.0"),
        Package("Go", "example.dev/other", "0.36.3"),
        Package("Go", "example.dev/kept", "2.0.1+incompatible"),
    }
    assert audit.of_npm(NPM) == {Package("npm", "@b/c", "3.1.4"), Package("npm", "real", "2.0.0")}
    assert all(audit.of_npm(lock.read_text()) for lock in audit.NPM_LOCKS)
    empty = [lock.parent.name for lock in audit.GO_LOCKS if not audit.of_go(lock.read_text())]
    assert empty == ["pause"]  # which needs nothing but Go


def test_answers_belong_to_what_was_asked() -> None:
    asked = [Package("npm", "a", "1"), Package("Go", "b", "2"), Package("npm", "c", "3")]
    answer = {"results": [{}, {"vulns": [{"id": "GO-1"}, {"id": "GO-2"}]}, {"vulns": []}]}
    assert list(audit.vulnerable(asked, answer)) == [(asked[1], "GO-1"), (asked[1], "GO-2")]


def test_a_database_that_does_not_answer_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = f"http://127.0.0.1:{free_one()}/v1"
    assert audit.main([], nowhere) == 0
    assert "Python, npm and Go could not be audited" in capsys.readouterr().out
    assert audit.main(["--require"], nowhere) == audit.NOT_AUDITED
