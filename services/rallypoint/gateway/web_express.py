"""The express lane: a call like the one before it, from its bytes to the answer in one go.

A player sends ten inputs a second over a connection that carries little else, and only the message
differs from one to the next. So whatever the long way checks (`web_protocol`, `web_plan`, the
guard, the handler) either repeats byte for byte or is looked at again:

    repeats     the request's head, so origin, verb, method, content-type, encoding, access token
                and the content-length; the gRPC frame's flag and length
    again       the session's time, the player's bucket, refused addresses: `calls.Again`
    recognized  the message: `calls.Express`, of methods that answer at once and with nothing

The lane never refuses. What it does not take it has not touched, no bucket either, and goes the
long way, which refuses for its own reasons. A pass belongs to one connection and one length.
"""

from __future__ import annotations

import asyncio
import functools
import re
from dataclasses import dataclass
from typing import Any

from rallypoint.gateway import calls, web_metrics
from rallypoint.gateway.domain import grpcweb
from rallypoint.gateway.domain.http_request import Hot
from rallypoint.gateway.web_drain import Arming
from rallypoint.gateway.web_plan import RpcPlan

MAX_PASSES = 12
"""Of one connection: a request has 1 to 8 inputs, and numbers in it grow by a byte now and then."""
ARM_AFTER = 3
"""Requests in a row served by the lane before the connection is armed (`web_drain`)."""
ARM_AFTER_MAX = 128
"""The same, for a connection that has come back again and again."""
MAX_PREFIX_BYTES = 2048
"""Longer heads are served, but not remembered."""

_LENGTH = re.compile(rb"\r\ncontent-length: ([1-9][0-9]{0,3})(?=\r\n)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Pass:
    """A request that was served, but for its message."""

    prefix: bytes
    size: int
    method: calls.UnaryMethod
    express: calls.Express
    session: Any
    tally: web_metrics.Tally
    answer: bytes
    peer: str


class Lane:
    """The express lane of one connection."""

    __slots__ = ("_again", "_arm_after", "_passes", "_served")

    def __init__(self, again: calls.Again | None) -> None:
        self._again = again
        self._served = 0
        self._arm_after = ARM_AFTER
        self._passes: dict[int, _Pass] = {}

    def serve(self, data: bytes, transport: asyncio.Transport, now: float) -> bool:
        """Serve a whole request at loop time `now`; False when it has to go the long way."""
        known = self._passes.get(len(data))
        if known is None or not data.startswith(known.prefix) or self._again is None:
            return False
        session = known.session
        asked = known.express.recognize(session, data[known.size :])
        if asked is None or not self._again(session, known.method, known.peer, now):
            return False
        known.express.carry_out(asked, now)
        transport.write(known.answer)
        known.tally.quick += 1
        self._served += 1
        return True

    @property
    def repeats(self) -> bool:
        """Whether so many requests in a row were served here that the next will be alike."""
        return self._served >= self._arm_after

    def arming(self, data: bytes) -> Arming | None:
        """What to know of the connection to serve more like `data`, which was just served."""
        known = self._passes[len(data)]
        self._served = 0
        standing = known.express.standing(known.session, data[known.size :])
        if standing is None:
            return None
        head = known.prefix[: -grpcweb.PREFIX_BYTES]
        lengths = list(_LENGTH.finditer(head))
        if len(lengths) != 1:
            return None
        start, end = lengths[0].span(1)
        return Arming(
            head[:start],
            head[end:],
            known.answer,
            session=known.session,
            standing=standing,
            peer=known.peer,
            tally=known.tally,
        )

    def returned(self) -> None:
        """The connection is not armed any more: wait longer with the next time."""
        self._served = 0
        self._arm_after = min(2 * self._arm_after, ARM_AFTER_MAX)

    def learn(self, plan: RpcPlan, hot: Hot | None, call: calls.Call, body: bytes) -> None:
        """Remember a call that was just answered with an empty message, if its like may repeat."""
        method = plan.method
        if isinstance(method, calls.StreamMethod) or method.express is None or method.rationed:
            return
        if self._again is None or hot is None or hot.plan is not plan or call.session is None:
            return
        # Of the body only the frame's prefix is kept: an uncompressed message of the same length.
        prefix = hot.head + body[: grpcweb.PREFIX_BYTES]
        repeats = hot.length == len(hot.head) + len(body) and len(prefix) <= MAX_PREFIX_BYTES
        plain = plan.mode is grpcweb.Mode.BINARY and body[0] == 0
        if not repeats or not plain or plan.close or plan.sampled:
            return
        if len(self._passes) >= MAX_PASSES and hot.length not in self._passes:
            del self._passes[next(iter(self._passes))]
        self._passes[hot.length] = _Pass(
            prefix=prefix,
            size=len(prefix),
            method=method,
            express=method.express,
            session=call.session,
            tally=plan.tally,
            answer=_empty_answer(plan.head),
            peer=plan.peer,
        )


@functools.lru_cache(maxsize=64)
def _empty_answer(head: bytes) -> bytes:
    """The one answer with this head, the same object for all connections."""
    frames = grpcweb.frame(b"") + grpcweb.OK_TRAILER
    return b"%b%d\r\n\r\n%b" % (head, len(frames), frames)
