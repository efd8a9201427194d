"""What a link holds for a node that takes nothing."""

from __future__ import annotations

from collections.abc import Iterable

from rallypoint.gateway.attach import Link, LinkSettings
from rallypoint.internal.v1 import room_host_pb2 as host

MOST = 3


class Nobody:
    """An owner that is never asked."""

    def greeting(self) -> host.AttachRequest:
        return host.AttachRequest()

    def received(self, response: bytes) -> Iterable[None]:
        return ()

    def detached(self) -> None:
        pass


def test_messages_for_a_node_that_takes_none_are_refused_above_the_bound() -> None:
    settings = LinkSettings(pending_messages_max=MOST)
    link = Link("node:1", owner=Nobody(), gateway_id="g", settings=settings)
    assert not link.message(host.ClientMessage(call=1))  # away
    link.attached = True
    assert [link.message(host.ClientMessage(call=call)) for call in range(5)] == [True] * MOST + [
        False,
        False,
    ]
    assert link.control(lambda request: request.joins.add())  # seats are asked for all the same
