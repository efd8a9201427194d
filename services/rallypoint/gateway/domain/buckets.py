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


@dataclass(slots=True)
class Bucket:
    """The bucket of a key while it is held."""

    full_at: float
    """When it would be full again. The drain in C takes from it by itself (`_edge_drain.c`)."""
    holders: int = 1


class Buckets:
    """One bucket per key. `now` is any clock that never goes back, seconds.

    Who takes often may hold a bucket: it is then the same for all, and not forgotten.
    """

    def __init__(self, rate: Rate, *, capacity: int = 50_000) -> None:
        self.interval_s = 1 / rate.per_s
        """The time a token takes to come back."""
        self.depth_s = rate.burst / rate.per_s
        """The time an empty bucket takes to fill."""
        self._capacity = capacity
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._held: dict[str, Bucket] = {}

    def take(self, key: str, now: float, *, count: float = 1) -> float:
        """Take `count` tokens. Returns 0, or the seconds to wait, having taken nothing."""
        held = self._held.get(key)
        full_at = self._full_at.get(key, now) if held is None else held.full_at
        if full_at < now:
            full_at = now
        full_at += count * self.interval_s
        wait = full_at - now - self.depth_s
        if wait > 1e-9:
            return wait
        if held is None:
            self._put(key, full_at, now)
        else:
            held.full_at = full_at
        return 0.0

    def hold(self, key: str) -> Bucket:
        """The bucket of a key, until `release` has been called as often."""
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = Bucket(self._full_at.pop(key, float("-inf")))
        else:
            held.holders += 1
        return held

    def release(self, key: str, now: float) -> None:
        """Give a held bucket back."""
        held = self._held[key]
        held.holders -= 1
        if not held.holders:
            del self._held[key]
            self._put(key, held.full_at, now)

    def _put(self, key: str, full_at: float, now: float) -> None:
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._capacity:
            self._forget(now)

    def _forget(self, now: float) -> None:
        for key in [key for key, full_at in self._full_at.items() if full_at <= now]:
            del self._full_at[key]
        while len(self._full_at) > self._capacity * 3 // 4:
            self._full_at.popitem(last=False)

    def __len__(self) -> int:
        return len(self._full_at) + len(self._held)


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
