"""A sampling profiler for one service: where its CPU time goes, at little cost.

The kernel interrupts as CPU time passes (ITIMER_PROF, at most once per scheduler tick) and the
handler notes the main thread's Python stack. Time inside C (a send, a parser) counts for the Python
line that called it; time in the event loop itself for the first line it calls afterwards.
"""

from __future__ import annotations

import collections
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

INTERVAL_S = 0.001
SHOWN = 60


class Samples:
    """How often each function was seen: on top of the stack, and anywhere in it."""

    def __init__(self) -> None:
        self.total = 0
        self.own: collections.Counter[str] = collections.Counter()
        self.within: collections.Counter[str] = collections.Counter()

    def note(self, _: int, frame: FrameType | None) -> None:
        """Called by the signal."""
        if frame is None:
            return
        self.total += 1
        self.own[f"{_place(frame)}:{frame.f_lineno}"] += 1
        seen: set[str] = set()
        while frame is not None:
            seen.add(_place(frame))
            frame = frame.f_back
        self.within.update(seen)

    def text(self) -> str:
        """Both tables, in percent of all samples."""
        return "\n".join(
            [f"{self.total} samples", "", "own time by line"]
            + [self._line(*item) for item in self.own.most_common(SHOWN)]
            + ["", "time within functions"]
            + [self._line(*item) for item in self.within.most_common(SHOWN)]
        )

    def _line(self, place: str, count: int) -> str:
        return f"{100 * count / self.total:6.2f} %  {place}"


@contextlib.contextmanager
def sampled(report: Path) -> Iterator[None]:
    """Sample while inside, then write the report."""
    samples = Samples()
    signal.signal(signal.SIGPROF, samples.note)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        report.write_text(samples.text() + "\n")


def _place(frame: FrameType) -> str:
    code = frame.f_code
    return f"{'/'.join(Path(code.co_filename).parts[-2:])} {code.co_name}"
