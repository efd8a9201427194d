"""Token buckets by key, and the key that stands for an address.

A bucket is one number: the time at which it would be full again (the generic cell rate algorithm,
ITU-T I.371). The table is bounded: full buckets are forgotten first, then the least recently used.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

IPv6_PREFIX_BITS = 64
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Rate:
    """How much is allowed: `per_s` in the long run, `burst` at once."""

    per_s: float
    burst: float


class Buckets:
    """One bucket per key. `now` is any clock that never goes back, seconds."""

    def __init__(self, rate: Rate, *, capacity: int = 50_000) -> None:
        self._interval_s = 1 / rate.per_s
        self._depth_s = rate.burst / rate.per_s
        self._capacity = capacity
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str, now: float, *, count: float = 1) -> float:
        """Take `count` tokens. Returns 0, or the seconds to wait, having taken nothing."""
        full_at = self._full_at.get(key, now)
        if full_at < now:
            full_at = now
        full_at += count * self._interval_s
        wait = full_at - now - self._depth_s
        if wait > 1e-9:
            return wait
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._capacity:
            self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        for key in [key for key, full_at in self._full_at.items() if full_at <= now]:
            del self._full_at[key]
        while len(self._full_at) > self._capacity * 3 // 4:
            self._full_at.popitem(last=False)

    def __len__(self) -> int:
        return len(self._full_at)


def address_key(ip: str) -> str:
    """Return the key of an address: IPv6 by its /64, since a host has all of that; IPv4 itself."""
    if ":" not in ip:
        return ip
    try:
        address = ipaddress.IPv6Address(ip.partition("%")[0])
    except ValueError:
        return ip
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, IPv6_PREFIX_BITS), strict=False))


class Ranges:
    """A set of addresses given as CIDR ranges."""

    def __init__(self, ranges: Iterable[str]) -> None:
        self._networks: list[_Network] = [
            ipaddress.ip_network(text, strict=False) for text in ranges
        ]

    def __contains__(self, ip: str) -> bool:
        if not self._networks:
            return False
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def client_address(peer: str, forwarded_for: str, proxies: Ranges) -> str:
    """Return the client's address: the last one in X-Forwarded-For that is not a proxy of ours.

    The header counts only when `peer` is a configured proxy; entries left of the first unknown
    address are the client's own claim and are not believed.
    """
    address = peer
    hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
    while address in proxies and hops:
        address = _without_port(hops.pop())
    return address


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
