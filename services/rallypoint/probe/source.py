"""The ladder: the best source of slots that this machine allows, and why it is no better.

    full        every hook (Linux 6.3)
    old         tcp_probe and tcp_rcv_space_adjust: no turnaround, no datagrams' waits (5.16)
    light       asked for: round trips, connects and retransmits only
    inet_diag   no BPF: looks at the connections of our own namespace
    snmp        not even that: the kernel's counters alone

A game server's own sockets can tell their round trip themselves: `sampling.tcp_info`.
"""

from __future__ import annotations

from typing import Final, Protocol

from rallypoint.kit import errors
from rallypoint.probe import sampling, session, wish
from rallypoint.probe.domain import layout

BPF_MODES: Final = ("full", "old", "light")
MODES: Final = (*BPF_MODES, "inet_diag", "snmp")


class Source(Protocol):
    """Where slots come from."""

    @property
    def mode(self) -> str:
        """The step of the ladder."""

    @property
    def reason(self) -> str:
        """Why it is not a better one; empty on the first."""

    def look(self) -> None:
        """Do what has to be done once a second."""

    def slots(self) -> list[layout.Slot]:
        """What is counted, for each slot that is taken."""

    def totals(self) -> dict[str, int]:
        """What went wrong."""

    def events(self) -> list[layout.Event]:
        """What has come since the last call."""

    def free(self, slot: layout.Slot) -> None:
        """Give a slot back."""

    def close(self) -> None:
        """Leave nothing behind."""


class CountersOnly:
    """The last step: no slots at all."""

    mode = "snmp"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def look(self) -> None:
        """Nothing to do."""

    def slots(self) -> list[layout.Slot]:
        """None."""
        return []

    def totals(self) -> dict[str, int]:
        """None."""
        return dict.fromkeys(layout.TOTALS, 0)

    def events(self) -> list[layout.Event]:
        """None."""
        return []

    def free(self, slot: layout.Slot) -> None:
        """There are none."""

    def close(self) -> None:
        """Nothing is open."""


def open_best(wanted: wish.Wanted) -> Source:
    """Go down the ladder from `wanted.mode` until something works."""
    reason = ""
    if wanted.mode in BPF_MODES:
        try:
            return session.Session(wanted)
        except errors.RallypointError as error:
            reason = f"{error.reason}: {error.message.splitlines()[0] if error.message else ''}"
    if wanted.mode != "snmp":
        try:
            return sampling.Sampled(wanted.ports, reason)
        except OSError as error:
            reason = f"{reason}; inet_diag: {error.strerror}".lstrip("; ")
    return CountersOnly(reason)
