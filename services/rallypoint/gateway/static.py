"""The built web client, served from memory.

Read once at start: paths come from the directory, never from a request, so nothing outside can be
asked for. Names with a content hash (`app-3F6XQ2KZ.js`, `assets/…-BxY12_zz.css`) are immutable for
a year, all others are revalidated by ETag. Text is gzipped at start, or taken from `name.gz`.
"""

import gzip
import hashlib
import mimetypes
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from rallypoint.gateway.domain import http_response
from rallypoint.gateway.domain.http_request import Refusal
from rallypoint.kit import errors

INDEX = "/index.html"
_HASHED = re.compile(
    r"[-.]([A-Z2-7]{8}|[0-9a-f]{8,64})\.\w+(\.map)?$|^/assets/.*-[\w-]{8}\.\w+(\.map)?$"
)
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
    ".ico": "image/x-icon",
}
_PACKED = {".js", ".mjs", ".css", ".html", ".json", ".map", ".svg", ".wasm", ".webmanifest", ".txt"}
_IMMUTABLE = b"cache-control: public, max-age=31536000, immutable\r\n"
_REVALIDATE = b"cache-control: no-cache\r\n"
_SAFE = b"x-content-type-options: nosniff\r\nreferrer-policy: same-origin\r\n"


@dataclass(frozen=True, slots=True)
class _File:
    lines: bytes
    etag: str
    plain: bytes
    packed: bytes | None


class StaticFiles:
    """The files under a directory, but for those whose names begin with one of `without`; empty
    when there is no directory."""

    def __init__(self, root: Path, *, without: Collection[str] = ()) -> None:
        self._files: dict[str, _File] = {}
        for path in sorted(root.rglob("*")) if root.is_dir() else ():
            shown = path.is_file() and not _hidden(path.relative_to(root))
            if shown and not path.name.startswith(tuple(without)):
                self._files["/" + path.relative_to(root).as_posix()] = _load(path, root)
        # Pages have their names as addresses: `/operator` is operator.html.
        pages = [name for name in self._files if name.count("/") == 1 and name.endswith(".html")]
        for name in pages:
            address = "/" if name == INDEX else name.removesuffix(".html")
            self._files[address] = self._files[name]

    def __len__(self) -> int:
        return len(self._files)

    def respond(self, path: str, headers: Mapping[str, str], *, close: bool) -> tuple[bytes, ...]:
        """Return head and body of the answer to a GET. Raises Refusal 404."""
        file = self._files.get(path)
        if file is None:
            raise Refusal(404, errors.NotFound("FILE_UNKNOWN", "there is no such page"))
        if file.etag in headers.get("if-none-match", ""):
            return (http_response.head(304, file.lines, length=None, close=close),)
        lines, body = file.lines, file.plain
        if file.packed is not None:
            lines += b"vary: accept-encoding\r\n"
            if _takes_gzip(headers.get("accept-encoding", "")):
                lines, body = lines + b"content-encoding: gzip\r\n", file.packed
        return http_response.head(200, lines, length=len(body), close=close), body


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts) or path.suffix == ".gz"


def _takes_gzip(accept: str) -> bool:
    for choice in accept.lower().split(","):
        name, _, quality = choice.partition(";")
        if name.strip() == "gzip":
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _load(path: Path, root: Path) -> _File:
    plain = path.read_bytes()
    etag = f'"{hashlib.sha256(plain).hexdigest()[:32]}"'
    name = "/" + path.relative_to(root).as_posix()
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0]
    lines = b"".join(
        (
            f"content-type: {kind or 'application/octet-stream'}\r\netag: {etag}\r\n".encode(),
            _IMMUTABLE if _HASHED.search(name) else _REVALIDATE,
            _SAFE,
        )
    )
    return _File(lines, etag, plain, _pack(path, plain))


def _pack(path: Path, plain: bytes) -> bytes | None:
    ready = path.with_name(path.name + ".gz")
    if ready.is_file():
        return ready.read_bytes()
    if path.suffix not in _PACKED:
        return None
    packed = gzip.compress(plain, compresslevel=6, mtime=0)
    return packed if len(packed) < len(plain) else None
