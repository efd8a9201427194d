"""A lane of a WebSocket: a unary call whose head is kept, so that a body alone calls again.

Calls that went the long way once (guard and handler, `websocket.Socket`) are served from their
bytes from then on, as in `web_express`: the head is the kept one, the session's time, its bucket
and refused addresses are looked at again (`calls.Again`), the message is recognized by the method
(`calls.Express`). The lane refuses nothing; what it does not take goes the long way.
"""

from __future__ import annotations

from typing import Any

from rallypoint.gateway import calls
from rallypoint.gateway.domain.grpcweb import PREFIX_BYTES
from rallypoint.gateway.domain.websocket_calls import CALL_BYTES
from rallypoint.gateway.web_drain import Arming
from rallypoint.gateway.web_express import ARM_AFTER
from rallypoint.gateway.web_plan import RpcPlan

_BODY_AT = CALL_BYTES + PREFIX_BYTES


class Lane:
    """A kept head, and the express way of its calls."""

    __slots__ = ("_again", "_express", "_method", "_served", "_session", "plan")

    def __init__(self, plan: RpcPlan, method: calls.UnaryMethod, again: calls.Again | None) -> None:
        self.plan = plan
        self._method = method
        self._again = again
        quick = not (method.rationed or plan.sampled) and again is not None
        self._express = method.express if quick else None
        self._session: Any = None
        self._served = 0

    def learn(self, call: calls.Call) -> None:
        """A call with this head went well."""
        self._session = call.session

    def serve(self, message: bytes, now: float) -> bool:
        """Serve a whole message at loop time `now`; False when it has to go the long way."""
        session, express = self._session, self._express
        if session is None or express is None or self._again is None:
            return False
        size = len(message) - _BODY_AT
        # An uncompressed body: flag 0 and the length, as one number.
        if size < 0 or int.from_bytes(message[CALL_BYTES:_BODY_AT], "big") != size:
            return False
        asked = express.recognize(session, message[_BODY_AT:])
        if asked is None or not self._again(session, self._method, self.plan.peer, now):
            return False
        express.carry_out(asked, now)
        self.plan.tally.quick += 1
        self._served += 1
        return True

    @property
    def repeats(self) -> bool:
        """Whether so many messages in a row were served here that the next will be alike."""
        return self._served >= ARM_AFTER

    def arming(self, message: bytes) -> Arming | None:
        """What to know of the lane to serve more like a message that was just served."""
        self._served = 0
        if self._express is None:
            return None
        standing = self._express.standing(self._session, message[_BODY_AT:])
        if standing is None:
            return None
        return Arming(
            b"",
            b"",
            b"",
            session=self._session,
            standing=standing,
            peer=self.plan.peer,
            tally=self.plan.tally,
            call=message[0],
        )
