"""A rack of hosts made of network namespaces, so that a process can be cut off without being hurt.

    netns.enter()                     # this process leaves the machine's network for one of its own
    with netns.Rack(("room-state-1", "room-state-2")) as rack:
        rack.place("room-state-1")    # its address, and the words that start a program there
        rack.cut("room-state-1"); rack.heal("room-state-1")

All of it hangs on processes of ours: a namespace ends with its last process, and so do its links.
Nothing of the machine's own network is touched. Linux only, with the right to make namespaces.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from rallypoint.cli import plan

SERVICES: Final = "10.213.0.1"
"""Where processes without a host of their own are reached."""
BROKERS: Final = "10.213.0.2"
"""Where both brokers listen: an address of their own, so that they alone can be out of reach."""
_MASK: Final = "/24"
_SWITCH: Final = "rack"
_CLONE_NEWNET: Final = 0x40000000
_PR_SET_PDEATHSIG: Final = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class Unavailable(Exception):
    """This machine or this user cannot make network namespaces; the text says what is missing."""


def enter() -> None:
    """Leave the machine's network. Call it in the main thread, before there are others."""
    for program in ("ip", "nsenter"):
        if shutil.which(program) is None:
            raise Unavailable(f"`{program}` is not installed (iproute2, util-linux)")
    if _LIBC.unshare(_CLONE_NEWNET):
        raise Unavailable(
            f"no right to make a network namespace ({os.strerror(ctypes.get_errno())})"
        )
    _ip("link set lo up")


class Rack:
    """The hosts by name, one switch between them. Use as a context manager, after `enter()`."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._places = {name: f"10.213.0.{10 + n}" for n, name in enumerate(hosts)}
        self._anchors: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            _ip(f"link add {_SWITCH} type bridge")
            for address in (SERVICES, BROKERS):
                _ip(f"address add {address}{_MASK} dev {_SWITCH}")
            _ip(f"link set {_SWITCH} up")
            for name in self._places:
                self._add(name)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        with contextlib.suppress(Unavailable):
            _ip(f"link delete {_SWITCH}")

    def place(self, name: str) -> plan.Place:
        """Where the process of that name runs."""
        return plan.Place(host=self._places[name], enter=self._into(name))

    def cut(self, name: str, *, from_brokers_only: bool = False) -> None:
        """No packet goes between this host and the others; or none from it to the brokers."""
        if from_brokers_only:
            self._within(name, f"route add blackhole {BROKERS}")
        else:
            _ip(f"link set {self._port(name)} down")

    def heal(self, name: str, *, from_brokers_only: bool = False) -> None:
        """Undo a cut."""
        if from_brokers_only:
            self._within(name, f"route delete blackhole {BROKERS}")
        else:
            _ip(f"link set {self._port(name)} up")

    def _add(self, name: str) -> None:
        anchor = self._anchors[name] = _anchor()
        port = self._port(name)
        _ip(f"link add {port} type veth peer name eth0 netns {anchor.pid}")
        _ip(f"link set {port} master {_SWITCH} up")
        self._within(name, "link set lo up")
        self._within(name, f"address add {self._places[name]}{_MASK} dev eth0")
        self._within(name, "link set eth0 up")

    def _port(self, name: str) -> str:
        """The switch's end of the host's cable."""
        return f"port{list(self._places).index(name)}"

    def _into(self, name: str) -> tuple[str, ...]:
        return ("nsenter", f"--net=/proc/{self._anchors[name].pid}/ns/net", "--")

    def _within(self, name: str, words: str) -> None:
        _run([*self._into(name), "ip", *words.split()])

    def _stop(self) -> None:
        for anchor in self._anchors.values():
            anchor.kill()
            anchor.wait()
        self._anchors.clear()


def _anchor() -> subprocess.Popen[bytes]:
    """A process that does nothing in a network namespace of its own, and ends with us."""
    parent = os.getpid()

    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent or _LIBC.unshare(_CLONE_NEWNET):
            os._exit(1)

    # Popen returns after the exec, when the namespace is there.
    return subprocess.Popen(["sleep", "infinity"], preexec_fn=prepare)


def _ip(words: str) -> None:
    _run(["ip", *words.split()])


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"`{' '.join(command)}`: {done.stderr.strip()}")
