"""The gateways' Ed25519 signing keys: one PEM file, shared by every gateway of a cluster.

The file holds PKCS#8 blocks: the first signs, all of them verify, so a key is rotated by putting
the new block on top and dropping the old one an access token's life later. A missing file is made
with mode 0600; several gateways may start at once, the first one wins and the rest read its key.

An Ed25519 PKCS#8 document is a fixed 16-byte head and the 32-byte seed (RFC 8410 §10.3), so
nothing heavy is imported to read, check or make one.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
from pathlib import Path

from rallypoint.kit import errors

SEED_BYTES = 32
_HEAD = bytes.fromhex("302e020100300506032b657004220420")
_BLOCK = re.compile(r"-----BEGIN PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]+?)-----END PRIVATE KEY-----")


def load_or_create(path: Path) -> tuple[bytes, ...]:
    """The seeds in the file, the signing one first.

    FailedPrecondition `SIGNING_KEY_UNUSABLE` names the file and the remedy.
    """
    try:
        if not path.exists():
            _create(path)
        text = path.read_text()
    except OSError as problem:
        raise _unusable(
            f"cannot use the signing key file {path}: {problem.strerror}; "
            "set RALLYPOINT_SIGNING_KEY_FILE to a readable file"
        ) from problem
    return parse(text, origin=str(path))


def parse(text: str, *, origin: str) -> tuple[bytes, ...]:
    """The seeds of every PEM block; FailedPrecondition when none, or one is not Ed25519."""
    seeds = tuple(_seed(block, origin) for block in _BLOCK.findall(text))
    if not seeds:
        raise _unusable(f"{origin} holds no PRIVATE KEY block; delete it to have one made")
    return seeds


def encode(seed: bytes) -> str:
    """The PEM block of a seed."""
    body = base64.b64encode(_HEAD + seed).decode()
    return f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"


def key_id(public_key: bytes) -> str:
    """The `kid` of a key: the first 16 hex digits of its public half's SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def _seed(block: str, origin: str) -> bytes:
    try:
        document = base64.b64decode(block)
    except ValueError as problem:
        raise _unusable(f"{origin} is no valid PEM file") from problem
    if document[: len(_HEAD)] != _HEAD or len(document) != len(_HEAD) + SEED_BYTES:
        raise _unusable(f"{origin} holds a key that is not Ed25519 (PKCS#8)")
    return document[len(_HEAD) :]


def _unusable(message: str) -> errors.FailedPrecondition:
    return errors.FailedPrecondition("SIGNING_KEY_UNUSABLE", message)


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(encode(secrets.token_bytes(SEED_BYTES)))
            file.flush()
            os.fsync(file.fileno())
        # link() refuses to replace: whoever comes second keeps the first one's key.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
