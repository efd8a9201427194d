"""Stand-ins for the two base images of the Dockerfile, made of Debian's packages.

No registry is asked: `debootstrap` makes what stands for python:3.13-slim-trixie; its apt, which
checks signatures, fetches the packages that the distroless Python image is made of. Both get the
names that the Dockerfile uses. The mirror is that of this machine's apt.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

SUITE = "trixie"
PYTHON = "docker.io/library/python:3.13-slim-trixie"
DISTROLESS = "gcr.io/distroless/python3-debian13:nonroot"
SLIM_EXTRA = "ca-certificates,netbase,tzdata,python3,python3-venv,python3-dev"
DISTROLESS_PACKAGES = (
    "base-files", "netbase", "tzdata", "media-types", "ca-certificates", "libc6", "libssl3t64",
    "libzstd1", "zlib1g", "libgcc-s1", "libgomp1", "libstdc++6", "gcc-14-base", "libbz2-1.0",
    "libcom-err2", "libcrypt1", "libdb5.3t64", "libexpat1", "libffi8", "libgssapi-krb5-2",
    "libk5crypto3", "libkeyutils1", "libkrb5-3", "libkrb5support0", "liblzma5", "libncursesw6",
    "libnsl2", "libreadline8t64", "libsqlite3-0", "libtinfo6", "libtirpc3t64", "libuuid1",
    "libpython3.13-minimal", "libpython3.13-stdlib", "python3.13-minimal",
)  # fmt: skip
USERS = (
    "root:x:0:0:root:/root:/sbin/nologin\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"
    "nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
)
GROUPS = "root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n"


def recipe() -> str:
    """Return a short hash of what decides the bases: this file."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]


def mirror() -> str:
    """Return where this machine's apt gets Debian from."""
    if not (address := _mirror()):
        run(["apt-get", "update"])  # names of archives come with their lists
        address = _mirror()
    if not address:
        raise RuntimeError("apt knows no Debian archive")
    return address


def _mirror() -> str:
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for line in listed.splitlines():
        origin, label, address = line.split("|")
        if (origin, label) == ("Debian", "Debian"):
            return address.rstrip("/")
    return ""


def slim(root: Path) -> None:
    """Make the root of a Debian with Python, its headers and apt."""
    command = ["debootstrap", "--variant=minbase"]
    command.append(f"--include={SLIM_EXTRA}")
    run([*command, SUITE, str(root), mirror()])
    shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)
    (root / "usr/local/bin/python3").symlink_to("/usr/bin/python3.13")


def distroless(root: Path, tools: Path, architecture: str) -> None:
    """Make the root of distroless Python for a processor, with the packages that the apt of
    `tools` fetches."""
    fetched = tools / "fetched"
    fetched.mkdir()
    asked = f"apt-get -qq -o APT::Architecture={architecture} -o APT::Architectures={architecture}"
    words = f"cd /fetched && {asked} update && {asked} download {' '.join(DISTROLESS_PACKAGES)}"
    run(["chroot", str(tools), "sh", "-c", words])
    root.mkdir()
    listed = root / "var/lib/dpkg/status.d"
    archives = sorted(fetched.iterdir(), key=lambda path: (not path.name.startswith("base-"), path))
    for archive in archives:
        run(["dpkg-deb", "-x", str(archive), str(root)])
        listed.mkdir(parents=True, exist_ok=True)
        name = archive.name.partition("_")[0]
        for member, suffix in (("control", ""), ("md5sums", ".md5sums")):
            words = ["dpkg-deb", "--info", str(archive), member]
            found = subprocess.run(words, check=True, capture_output=True)
            (listed / f"{name}{suffix}").write_bytes(found.stdout)
    shutil.rmtree(fetched)
    _configure(root)


def _configure(root: Path) -> None:
    """Do what the packages' own scripts would."""
    (root / "etc/passwd").write_text(USERS)
    (root / "etc/group").write_text(GROUPS)
    trusted = root / "etc/ssl/certs/ca-certificates.crt"
    trusted.parent.mkdir(parents=True, exist_ok=True)
    with trusted.open("wb") as bundle:
        for path in sorted((root / "usr/share/ca-certificates").rglob("*.crt")):
            bundle.write(path.read_bytes())
    for name in ("python", "python3"):
        (root / "usr/bin" / name).symlink_to("/usr/bin/python3.13")
    home = root / "home/nonroot"
    home.mkdir(parents=True)
    home.chmod(0o700)
    shutil.chown(home, 65532, 65532)
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)


def run(command: list[str]) -> None:
    """Run a command quietly; what it said is told when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr)[-4000:]
        raise RuntimeError(f"{' '.join(command[:2])} … ended with {done.returncode}\n{said}")
