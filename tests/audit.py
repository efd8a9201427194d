"""Ask for known vulnerabilities of all locked Python requirements: `make audit`.

pip-audit runs in an environment of its own, made only where the OSV database answers. Where it does
not, that is said: nothing was audited, and only `--require` makes that a failure (exit code 3).
Exit code 1: a requirement is known to be vulnerable.
"""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
API = "https://api.osv.dev/v1/query"
HOME = ROOT / ".venv-audit"
LOCK = ROOT / "requirements" / "audit.txt"
LOCKS = (*sorted(LOCK.parent.glob("*.txt")), ROOT / "loadtest" / "requirements.txt")
ANSWER_S = 4.0
NOT_AUDITED = 3


def answers(api: str) -> str:
    """Ask about nothing; the reason why there is no answer, or nothing."""
    request = urllib.request.Request(api, data=b'{"package": {}}', method="POST")
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


def main(arguments: list[str]) -> int:
    """Audit, or say why not."""
    reason = answers(API)
    if reason:
        print(f"could not be audited: {API} cannot be asked ({reason})")
        return NOT_AUDITED if "--require" in arguments else 0
    words = ["--vulnerability-service", "osv", "--strict", "--disable-pip", "--require-hashes"]
    program = str(installed())
    # One at a time: two locks may have different releases of the same package.
    found = [
        subprocess.run([program, *words, "-r", str(lock)], check=False).returncode for lock in LOCKS
    ]
    return max(found)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
