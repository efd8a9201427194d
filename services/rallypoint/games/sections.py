"""The encoder that a process uses: in C where that was compiled, with numpy elsewhere.

Both write the same bytes. `RALLYPOINT_PURE=1` keeps a process from loading what was compiled.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from rallypoint.games import codec
from rallypoint.games.arena import Run
from rallypoint.games.encoder import EncoderTable, NumpyEncoder

if TYPE_CHECKING:
    from rallypoint.games import _sections

PURE: Final = os.environ.get("RALLYPOINT_PURE") == "1"
try:
    if PURE:
        raise ImportError("not wanted")
    from rallypoint.games import _sections
except ImportError:
    COMPILED = False
else:
    COMPILED = True


class SectionEncoder(Protocol):
    """Encodes tables for receivers, each of which has a lane."""

    def deltas(self, lanes: int) -> list[bytes]:
        """Sections of the first `lanes` lanes against those of the call before."""

    def frames(self, lanes: int, heads: list[bytes], tail: bytes) -> list[bytes]:
        """`deltas` with each lane's head and the tail before them."""

    def keyframes(self, lanes: Sequence[int]) -> list[bytes]:
        """Sections of the given lanes against zeros, as of the last `deltas`."""

    def forget(self, lanes: slice) -> None:
        """Start anew with lanes whose values were set to zero."""


def make(tables: Sequence[EncoderTable], lanes: int) -> SectionEncoder:
    """The faster one that is there."""
    return CompiledEncoder(tables, lanes) if COMPILED else NumpyEncoder(tables, lanes)


class CompiledEncoder:
    """Hands the tables' memory to the encoder in C."""

    def __init__(self, tables: Sequence[EncoderTable], lanes: int) -> None:
        described = [_described(table) for table in tables]
        self._encoder = _sections.Encoder(lanes, described)
        self.deltas = self._encoder.deltas
        self.frames = self._encoder.frames
        self.keyframes = self._encoder.keyframes

    def forget(self, lanes: slice) -> None:
        """Start anew with lanes whose values were set to zero."""
        self._encoder.forget(lanes.start, lanes.stop)


def _described(table: EncoderTable) -> "_sections.Table":
    spec, runs = table
    sent = [_described_run(run) for run in runs if run.kind is not None]
    return spec.id, int(spec.visibility), codec.rows_of(spec), len(spec.columns), sent


def _described_run(run: Run) -> "_sections.Run":
    kind = run.kind
    assert kind is not None
    top = codec.QUANTA.get(kind, 0)
    bounds = [column.spec() for column in run.columns] if top else []
    lows = tuple(bound.minimum for bound in bounds)
    scales = tuple(top / (bound.maximum - bound.minimum) for bound in bounds)
    return run.values, len(run.columns), kind.width, float(top), lows, scales
