"""The Python client: sessions, matchmaking and rooms, over gRPC-Web, a WebSocket or native gRPC.

The same shape as the TypeScript client of `clients/web`. Imports the stubs, the pure codec of
`rallypoint.games` and `rallypoint.kit`; no service.
"""

from rallypoint.client import replay
from rallypoint.client.channel import Channel, WebChannel, open_channel
from rallypoint.client.matchmaking import Matchmaking, TicketGone
from rallypoint.client.room import RoomConnection
from rallypoint.client.rooms import Rooms
from rallypoint.client.seat import Ended, Resync, Seat, Stepped
from rallypoint.client.session import Session, connect
from rallypoint.client.websocket import WebSocketChannel

__all__ = [
    "Channel",
    "Ended",
    "Matchmaking",
    "Resync",
    "RoomConnection",
    "Rooms",
    "Seat",
    "Session",
    "Stepped",
    "TicketGone",
    "WebChannel",
    "WebSocketChannel",
    "connect",
    "open_channel",
    "replay",
]
