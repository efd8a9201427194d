"""The web client's files: types, caching, compression, and nothing else."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from rallypoint.gateway.domain.http_request import Refusal
from rallypoint.gateway.static import StaticFiles

PAGE = "<!doctype html>" + "<p>hello</p>" * 50


@pytest.fixture
def files(tmp_path: Path) -> StaticFiles:
    root = tmp_path / "dist"
    (root / "assets").mkdir(parents=True)
    (root / "index.html").write_text(PAGE)
    (root / "app-3F6XQ2KZ.js").write_text("let a = 1;" * 100)
    (root / "assets" / "style-BxY12_zz.css").write_text("a{}")
    (root / "component1.js").write_text("1")
    (root / "ready.js").write_text("x" * 100)
    (root / "ready.js.gz").write_bytes(gzip.compress(b"ready"))
    (root / ".secret").write_text("no")
    (tmp_path / "outside.txt").write_text("no")
    return StaticFiles(root)


def get(files: StaticFiles, path: str, **headers: str) -> tuple[str, bytes]:
    head, *body = files.respond(
        path, {name.replace("_", "-"): value for name, value in headers.items()}, close=False
    )
    return head.decode(), b"".join(body)


def test_root_is_the_index_and_revalidated(files: StaticFiles) -> None:
    head, body = get(files, "/")
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "content-type: text/html; charset=utf-8" in head
    assert "cache-control: no-cache" in head
    assert body.decode() == PAGE


@pytest.mark.parametrize("path", ["/app-3F6XQ2KZ.js", "/assets/style-BxY12_zz.css"])
def test_hashed_name_is_immutable(files: StaticFiles, path: str) -> None:
    assert "max-age=31536000, immutable" in get(files, path)[0]


def test_plain_name_is_not_taken_for_a_hash(files: StaticFiles) -> None:
    assert "cache-control: no-cache" in get(files, "/component1.js")[0]


def test_text_is_gzipped_for_those_who_take_it(files: StaticFiles) -> None:
    head, body = get(files, "/", accept_encoding="br, gzip;q=0.8")
    assert "content-encoding: gzip" in head
    assert "vary: accept-encoding" in head
    assert gzip.decompress(body).decode() == PAGE
    assert "content-encoding" not in get(files, "/", accept_encoding="gzip;q=0")[0]


def test_compressed_file_beside_it_is_used(files: StaticFiles) -> None:
    _, body = get(files, "/ready.js", accept_encoding="gzip")
    assert gzip.decompress(body) == b"ready"


def test_known_etag_gets_no_body(files: StaticFiles) -> None:
    head, _ = get(files, "/")
    etag = next(line for line in head.split("\r\n") if line.startswith("etag")).split(" ")[1]
    head, body = get(files, "/", if_none_match=etag)
    assert head.startswith("HTTP/1.1 304 ")
    assert body == b""


@pytest.mark.parametrize(
    "path",
    [
        "/../outside.txt",
        "/..%2foutside.txt",
        "//outside.txt",
        "/assets/../../outside.txt",
        "/.secret",
        "/ready.js.gz",
        "/assets",
        "/assets/",
        "/nothing",
        "\\index.html",
    ],
)
def test_nothing_but_the_files_is_served(files: StaticFiles, path: str) -> None:
    with pytest.raises(Refusal) as caught:
        get(files, path)
    assert caught.value.http_status == 404


def test_missing_directory_serves_nothing(tmp_path: Path) -> None:
    assert len(StaticFiles(tmp_path / "none")) == 0


def test_pages_have_their_names_as_addresses_unless_they_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    for name in ("index.html", "operator.html", "assets/operator-ABCD2345.js"):
        (tmp_path / name).write_text(name)
    files = StaticFiles(tmp_path)
    assert b"".join(files.respond("/operator", {}, close=False)).endswith(b"operator.html")
    assert b"".join(files.respond("/", {}, close=False)).endswith(b"index.html")
    closed = StaticFiles(tmp_path, without=("operator",))
    for address in ("/operator", "/operator.html", "/assets/operator-ABCD2345.js"):
        with pytest.raises(Refusal):
            closed.respond(address, {}, close=False)
    assert closed.respond("/", {}, close=False)
