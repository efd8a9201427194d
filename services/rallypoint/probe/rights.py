"""Give up rights, and the system calls that do it: prctl, capset, seccomp.

The exporter gives up everything before it opens a socket. The loader keeps what bpf() needs and
gives up sockets instead: a filter refuses every family but AF_UNIX.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
from pathlib import Path
from typing import Final

from rallypoint.kit import errors

CAP_NET_ADMIN: Final = 12
CAP_PERFMON: Final = 38
CAP_BPF: Final = 39
_LAST_CAP: Final = 63
_CAPABILITY_VERSION: Final = 0x20080522
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_SECCOMP_FILTER: Final = 2
_ARCHITECTURES: Final = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
_AF_UNIX: Final = 1
_REFUSE_EACCES: Final = 0x00050000 | 13
_ALLOW: Final = 0x7FFF0000

_libc = ctypes.CDLL(None, use_errno=True)


def held() -> frozenset[int]:
    """The capabilities in force."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            mask = int(line.split()[1], 16)
            return frozenset(bit for bit in range(_LAST_CAP + 1) if mask >> bit & 1)
    return frozenset()


def keep_only(capabilities: frozenset[int]) -> None:
    """Give up every other capability, for good: also for what this process may start."""
    for bit in range(_LAST_CAP + 1):
        if bit not in capabilities:
            # Refused (EPERM) to who has no right to shrink the bound: then capset is enough, and
            # EINVAL ends the list of this kernel's capabilities.
            _libc.prctl(_PR_CAPBSET_DROP, bit, 0, 0, 0)
    mask = sum(1 << bit for bit in capabilities & held())
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION, 0))
    sets = ctypes.create_string_buffer(struct.pack("=6I", low, low, 0, high, high, 0))
    _checked(_libc.capset(header, sets), "capset")
    no_new_rights()


def no_new_rights() -> None:
    """No exec gives rights back."""
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def refuse_network() -> bool:
    """Refuse every socket() but AF_UNIX from now on; False where we do not know the numbers."""
    numbers = _ARCHITECTURES.get(platform.machine())
    if numbers is None:
        return False
    no_new_rights()
    program = _filter(*numbers)
    memory = ctypes.create_string_buffer(program)
    description = struct.pack("@HP", len(program) // 8, ctypes.addressof(memory))
    fprog = ctypes.create_string_buffer(description)
    _checked(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_FILTER, fprog, 0, 0), "seccomp")
    return True


def _filter(architecture: int, socket_number: int) -> bytes:
    """Classic BPF over struct seccomp_data: nr at 0, arch at 4, the first argument at 16."""
    load, equal, result = 0x20, 0x15, 0x06
    code = (
        (load, 0, 0, 4),
        (equal, 0, 5, architecture),  # another personality: refuse
        (load, 0, 0, 0),
        (equal, 0, 2, socket_number),
        (load, 0, 0, 16),
        (equal, 0, 1, _AF_UNIX),
        (result, 0, 0, _ALLOW),
        (result, 0, 0, _REFUSE_EACCES),
    )
    return b"".join(struct.pack("=HBBI", *line) for line in code)


def _checked(result: int, what: str) -> None:
    if result:
        raise errors.Internal("RIGHTS_KEPT", f"{what}: {os.strerror(ctypes.get_errno())}")


def limit_locked_memory() -> None:
    """Before Linux 5.11 maps count as locked memory: ask for as much as we may."""
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)
