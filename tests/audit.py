"""Ask for known vulnerabilities of all that is locked: `make audit`.

The OSV database is asked: by pip-audit about Python requirements (in an environment of its own,
made where the database answers), by us about npm's locks and the Go modules of the tests' tools.
Where it does not answer, that is said: nothing was audited, and only `--require` makes that a
failure (exit code 3). Exit code 1: something locked is known to be vulnerable.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
API = "https://api.osv.dev/v1"
HOME = ROOT / ".venv-audit"
LOCK = ROOT / "requirements" / "audit.txt"
PYTHON_LOCKS = (*sorted(LOCK.parent.glob("*.txt")), ROOT / "loadtest" / "requirements.txt")
NPM_LOCKS = tuple(
    ROOT / folder / "package-lock.json"
    for folder in ("clients/web", "loadtest/peers/colyseus", "tests/e2e/third_party")
)
GO_LOCKS = tuple(sorted(ROOT.glob("tests/tools/*/go.mod")))
ANSWER_S = 4.0
QUERIES = 500
"""In one request; the database takes a thousand."""
NOT_AUDITED = 3

_REQUIRED = re.compile(r"^(?:require |\t)(\S+) v(\S+)", re.MULTILINE)
_REPLACED = re.compile(r"^(?:replace |\t)(\S+)(?: v\S+)? => (\S+) v(\S+)", re.MULTILINE)


class Package(NamedTuple):
    """One version of something, as OSV names it."""

    ecosystem: str
    name: str
    version: str

    def query(self) -> dict[str, object]:
        """What OSV is asked."""
        named = {"name": self.name, "ecosystem": self.ecosystem}
        return {"package": named, "version": self.version}


def of_npm(text: str) -> set[Package]:
    """What a package-lock.json locks."""
    packages: Mapping[str, Mapping[str, str]] = json.loads(text)["packages"]
    return {
        Package("npm", one.get("name") or path.rpartition("node_modules/")[2], one["version"])
        for path, one in packages.items()
        if path and "version" in one
    }


def of_go(text: str) -> set[Package]:
    """What a go.mod requires, after its replacements."""
    replaced = {old: (new, version) for old, new, version in _REPLACED.findall(text)}
    return {
        Package("Go", *replaced.get(name, (name, version)))
        for name, version in _REQUIRED.findall(text)
    }


def vulnerable(asked: list[Package], answer: Mapping[str, Any]) -> Iterator[tuple[Package, str]]:
    """What OSV knows of those it was asked about, in their order."""
    for package, result in zip(asked, answer["results"], strict=True):
        for known in result.get("vulns", ()):
            yield package, known["id"]


def ask(api: str, packages: set[Package]) -> Iterator[tuple[Package, str]]:
    """Ask about all."""
    ordered = sorted(packages)
    for start in range(0, len(ordered), QUERIES):
        part = ordered[start : start + QUERIES]
        body = json.dumps({"queries": [one.query() for one in part]}).encode()
        request = urllib.request.Request(f"{api}/querybatch", data=body, method="POST")
        with urllib.request.urlopen(request, timeout=60) as said:
            yield from vulnerable(part, json.load(said))


def answers(api: str) -> str:
    """Ask about nothing; the reason why there is no answer, or nothing."""
    request = urllib.request.Request(f"{api}/query", data=b'{"package": {}}', method="POST")
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S):
            return ""
    except urllib.error.HTTPError as error:
        return "" if error.code == 400 else f"it answers {error.code}"
    except OSError as error:
        return str(error)


def installed() -> Path:
    """pip-audit, installed from its lock when that is newer."""
    program = HOME / "bin" / "pip-audit"
    if not program.exists() or LOCK.stat().st_mtime > program.stat().st_mtime:
        venv.create(HOME, with_pip=True)
        pip = [str(HOME / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "-r", str(LOCK)], check=True)
        program.touch()
    return program


def audit_python() -> int:
    """The exit code of pip-audit, the worst of all locks."""
    words = ["--vulnerability-service", "osv", "--strict", "--disable-pip", "--require-hashes"]
    program = str(installed())
    # One at a time: two locks may have different releases of the same package.
    return max(
        subprocess.run([program, *words, "-r", str(lock)], check=False).returncode
        for lock in PYTHON_LOCKS
    )


def audit_others(api: str) -> int:
    """Tell what is known of npm's and Go's locks; 1 if anything is."""
    packages = set[Package]().union(
        *(of_npm(lock.read_text()) for lock in NPM_LOCKS),
        *(of_go(lock.read_text()) for lock in GO_LOCKS),
    )
    found = list(ask(api, packages))
    for package, identity in found:
        print(f"{package.ecosystem} {package.name} {package.version}: {identity}")
    print(f"{len(packages)} packages of npm and Go: {len(found)} known vulnerabilities")
    return 1 if found else 0


def main(arguments: list[str], api: str = API) -> int:
    """Audit, or say why not."""
    reason = answers(api)
    if reason:
        print(
            "the locks of Python, npm and Go could not be audited: "
            f"{api} cannot be asked ({reason})"
        )
        return NOT_AUDITED if "--require" in arguments else 0
    return max(audit_python(), audit_others(api))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
