"""What a look of `rallypoint doctor` found, and plain rules for versions."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass


class State(enum.Enum):
    """How well something is."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `fix` says what to do, also where nothing has to be done."""

    name: str
    state: State
    seen: str
    fix: str = ""


def judged(name: str, good: bool, seen: str, fix: str, *, otherwise: State = State.BAD) -> Check:  # noqa: FBT001  # reads well
    """A check that is well or not."""
    return Check(name, State.OK if good else otherwise, seen, fix)


def version(text: str) -> tuple[int, int]:
    """The first two numbers of a version; (0, 0) when there are none."""
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def too_far(server: str, node: str) -> bool:
    """Whether a kubelet is newer than its API server, or more than three minors older."""
    ahead = version(server)[1] - version(node)[1]
    return version(server)[0] == version(node)[0] and not 0 <= ahead <= 3
