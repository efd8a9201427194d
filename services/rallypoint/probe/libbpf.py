"""The one binding to libbpf.so.1, over ctypes: open, set, load, attach; maps and programs by fd.

Every failure is a FailedPrecondition with a reason: NO_LIBBPF, NOT_ALLOWED (EPERM) or BPF_REFUSED,
the last with what the verifier or libbpf said. `errno` is read right after the call it belongs to.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from rallypoint.kit import errors

LIBRARY: Final = "libbpf.so.1"
_MESSAGE_BYTES: Final = 1 << 18
_KEPT_LINES: Final = 60
_STATS_RUN_TIME: Final = 0
_TRACEPOINT_PREFIX: Final = b"btf_trace_"
_KIND_TYPEDEF: Final = 8

_pointer, _text, _int = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
_SIGNATURES: Final[Mapping[str, tuple[Any, tuple[Any, ...]]]] = {
    "libbpf_set_print": (_pointer, (_pointer,)),
    "bpf_object__open_file": (_pointer, (_text, _pointer)),
    "bpf_object__load": (_int, (_pointer,)),
    "bpf_object__close": (None, (_pointer,)),
    "bpf_object__find_program_by_name": (_pointer, (_pointer, _text)),
    "bpf_object__find_map_by_name": (_pointer, (_pointer, _text)),
    "bpf_object__next_program": (_pointer, (_pointer, _pointer)),
    "bpf_program__name": (_text, (_pointer,)),
    "bpf_program__set_autoload": (_int, (_pointer, ctypes.c_bool)),
    "bpf_program__fd": (_int, (_pointer,)),
    "bpf_program__attach": (_pointer, (_pointer,)),
    "bpf_program__attach_cgroup": (_pointer, (_pointer, _int)),
    "bpf_map__fd": (_int, (_pointer,)),
    "bpf_map__set_max_entries": (_int, (_pointer, ctypes.c_uint32)),
    "bpf_map__initial_value": (_pointer, (_pointer, ctypes.POINTER(ctypes.c_size_t))),
    "bpf_map__reuse_fd": (_int, (_pointer, _int)),
    "bpf_link__fd": (_int, (_pointer,)),
    "bpf_link__destroy": (_int, (_pointer,)),
    "bpf_map_update_elem": (_int, (_int, _pointer, _pointer, ctypes.c_uint64)),
    "bpf_map_lookup_elem": (_int, (_int, _pointer, _pointer)),
    "bpf_map_delete_elem": (_int, (_int, _pointer)),
    "bpf_prog_test_run_opts": (_int, (_int, _pointer)),
    "bpf_enable_stats": (_int, (_int,)),
    "btf__load_vmlinux_btf": (_pointer, ()),
    "btf__find_by_name_kind": (ctypes.c_int32, (_pointer, _text, ctypes.c_uint32)),
    "btf__free": (None, (_pointer,)),
}
_Print = ctypes.CFUNCTYPE(_int, _int, _text, _pointer)


class _Library:
    """libbpf with its signatures set, and what it printed last."""

    def __init__(self) -> None:
        try:
            self._so = ctypes.CDLL(LIBRARY, use_errno=True)
        except OSError as error:
            raise errors.FailedPrecondition("NO_LIBBPF", str(error)) from None
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._so, name)
            function.restype, function.argtypes = result, arguments
        self.said: list[str] = []
        self._format = ctypes.CDLL(None).vsnprintf
        self._format.argtypes = (_pointer, ctypes.c_size_t, _text, _pointer)
        self._callback = _Print(self._hear)  # libbpf keeps the pointer: so must we
        self._so.libbpf_set_print(ctypes.cast(self._callback, _pointer))

    def _hear(self, _level: int, form: bytes, values: int) -> int:
        buffer = ctypes.create_string_buffer(_MESSAGE_BYTES)
        self._format(buffer, _MESSAGE_BYTES, form, values)
        self.said = [*self.said[-_KEPT_LINES:], buffer.value.decode(errors="replace").rstrip()]
        return 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._so, name)

    def refused(self, what: str) -> errors.FailedPrecondition:
        """The error of the call that just failed."""
        code = ctypes.get_errno()
        told = "\n".join(self.said[-12:])
        allowed = code not in (errno.EPERM, errno.EACCES) or "processed" in told
        reason = "BPF_REFUSED" if allowed else "NOT_ALLOWED"
        return errors.FailedPrecondition(reason, f"{what}: {os.strerror(code)}\n{told}".rstrip())


_library: _Library | None = None


def _lib() -> _Library:
    global _library
    if _library is None:
        _library = _Library()
    return _library


class Object:
    """One object file: opened, prepared, loaded, attached. Closing it detaches everything."""

    def __init__(self, path: Path) -> None:
        self._object = _lib().bpf_object__open_file(os.fsencode(path), None)
        if not self._object:
            raise _lib().refused(f"open {path.name}")
        self._links: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Detach what is attached and close every descriptor of the object."""
        for link in self._links.values():
            _lib().bpf_link__destroy(link)
        self._links.clear()
        if self._object:
            _lib().bpf_object__close(self._object)
            self._object = 0

    def programs(self) -> list[str]:
        """The names of all programs in the file."""
        names, program = [], None
        while program := _lib().bpf_object__next_program(self._object, program):
            names.append(_lib().bpf_program__name(program).decode())
        return names

    def keep_only(self, names: frozenset[str]) -> None:
        """Load no other program."""
        for name in self.programs():
            _lib().bpf_program__set_autoload(self._program(name), name in names)

    def set_size(self, name: str, entries: int) -> None:
        """Say how many entries a map has, before loading."""
        _lib().bpf_map__set_max_entries(self._map(name), entries)

    def share_map(self, name: str, fd: int) -> None:
        """Use another object's map, before loading."""
        if _lib().bpf_map__reuse_fd(self._map(name), fd):
            raise _lib().refused(f"share {name}")

    def initial(self, section: str) -> Any:
        """The bytes of `.data` or `.rodata` as they will be loaded, to be written to."""
        size = ctypes.c_size_t()
        at = _lib().bpf_map__initial_value(self._map(section), ctypes.byref(size))
        return (ctypes.c_char * size.value).from_address(at)

    def load(self) -> None:
        """Verify and load."""
        if _lib().bpf_object__load(self._object):
            raise _lib().refused("load")

    def attach(self, name: str, cgroup_fd: int | None = None) -> int:
        """Attach a program where its section says, or to a cgroup; the link's descriptor."""
        program = self._program(name)
        if cgroup_fd is None:
            link = _lib().bpf_program__attach(program)
        else:
            link = _lib().bpf_program__attach_cgroup(program, cgroup_fd)
        if not link:
            raise _lib().refused(f"attach {name}")
        self._links[name] = link
        return int(_lib().bpf_link__fd(link))

    def detach(self, name: str) -> None:
        """Undo `attach`."""
        _lib().bpf_link__destroy(self._links.pop(name))

    def program_fd(self, name: str) -> int:
        """The descriptor of a loaded program."""
        return int(_lib().bpf_program__fd(self._program(name)))

    def map_fd(self, name: str) -> int:
        """The descriptor of a loaded map."""
        return int(_lib().bpf_map__fd(self._map(name)))

    def _program(self, name: str) -> int:
        found = _lib().bpf_object__find_program_by_name(self._object, name.encode())
        if not found:
            raise errors.Internal("NO_SUCH_PROGRAM", name)
        return int(found)

    def _map(self, name: str) -> int:
        found = _lib().bpf_object__find_map_by_name(self._object, name.encode())
        if not found:
            raise errors.Internal("NO_SUCH_MAP", name)
        return int(found)


def map_update(fd: int, key: bytes | None, value: bytes) -> None:
    """Write one entry; without a key push into a queue."""
    if _lib().bpf_map_update_elem(fd, key, value, 0):
        raise _lib().refused("write to a map")


def map_lookup(fd: int, key: bytes, value_bytes: int) -> bytes | None:
    """Read one entry."""
    buffer = ctypes.create_string_buffer(value_bytes)
    return None if _lib().bpf_map_lookup_elem(fd, key, buffer) else buffer.raw


def map_delete(fd: int, key: bytes) -> bool:
    """Delete one entry; False if there was none."""
    return not _lib().bpf_map_delete_elem(fd, key)


class _TestRun(ctypes.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", _pointer),
        ("data_out", _pointer),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", _pointer),
        ("ctx_out", _pointer),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", _int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


def test_run(fd: int, context: bytearray) -> None:
    """Run a syscall program once; it reads and writes `context`."""
    memory = (ctypes.c_char * len(context)).from_buffer(context)
    options = _TestRun(sz=ctypes.sizeof(_TestRun), ctx_size_in=len(context))
    options.ctx_in = ctypes.addressof(memory)
    if _lib().bpf_prog_test_run_opts(fd, ctypes.byref(options)):
        raise _lib().refused("test run")


def enable_stats() -> int:
    """Have the kernel time every run until the returned descriptor is closed."""
    fd = _lib().bpf_enable_stats(_STATS_RUN_TIME)
    if fd < 0:
        raise _lib().refused("time the programs")
    return int(fd)


def tracepoints_of_kernel(names: frozenset[str]) -> frozenset[str] | None:
    """Those that the running kernel has; None if it tells nothing about itself (no BTF)."""
    btf = _lib().btf__load_vmlinux_btf()
    if not btf:
        return None
    found = frozenset(
        name
        for name in names
        if _lib().btf__find_by_name_kind(btf, _TRACEPOINT_PREFIX + name.encode(), _KIND_TYPEDEF) > 0
    )
    _lib().btf__free(btf)
    return found
