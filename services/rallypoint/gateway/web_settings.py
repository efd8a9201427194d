"""Settings of the web edge. Part of the gateway's settings; every field is flattened into them.

The defaults are those of a public server; a bench or a proxy in front names its addresses in
`trusted_ranges` or `proxies` instead of raising limits for everybody.
"""

from dataclasses import dataclass, field

from rallypoint.gateway.domain.http_request import HttpLimits
from rallypoint.gateway.domain.origin import SAME_ORIGIN


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """Limits and trust of the web edge."""

    origins: tuple[str, ...] = (SAME_ORIGIN,)
    """Browser origins that may call, exact, or `same-origin`."""
    proxies: tuple[str, ...] = ()
    """CIDR ranges whose X-Forwarded-For is believed; not limited per address themselves."""
    trusted_ranges: tuple[str, ...] = ()
    """CIDR ranges without limits on connections."""
    http: HttpLimits = field(default_factory=HttpLimits)
    request_timeout_s: float = 5.0
    """From the first byte of a request to its last. Inputs are one packet; uploads do not exist."""
    idle_timeout_s: float = 75.0
    """How long a connection may wait for its next request."""
    max_connections: int = 20_000
    """Open connections of this process, at the web port and as many at that of native gRPC."""
    max_connections_per_ip: int = 64
    """Open connections per IPv4 address or IPv6 /64, at each of both: a page takes at most 6."""
    new_connections_per_ip_per_s: float = 20.0
    """New connections per address in the long run; twice as many at once."""
    refusals_per_websocket_per_s: float = 5.0
    """Calls of one WebSocket that are refused before they begin, in the long run; above it the
    connection closes. Twenty times as many at once: a client of 20 inputs a second may have missed
    for some seconds that its access token has ended."""
    unary_timeout_s: float = 5.0
    """The deadline of a unary call that names none."""
    unary_timeout_cap_s: float = 30.0
    """The longest deadline of a unary call."""
    stream_timeout_cap_s: float = 3600.0
    """The longest life of a stream; then the client is asked to come again."""
    max_pending_bytes: int = 256 * 1024
    """Unsent bytes of one stream's reliable messages; above it the stream ends."""
