"""Print a namespace and the Secret with the keys of a cluster for development, as YAML.

They are made once and kept in .tilt/ of the checkout: what runs would not agree with new ones.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
from pathlib import Path

SECRET = "rallypoint-dev-keys"  # noqa: S105  # a name
KEPT = Path(__file__).resolve().parents[2] / ".tilt" / "keys.json"
PKCS8_ED25519 = bytes.fromhex("302e020100300506032b657004220420")


def made() -> dict[str, str]:
    """Make keys of the forms that the chart makes."""
    key = base64.b64encode(PKCS8_ED25519 + secrets.token_bytes(32)).decode()
    return {
        "cluster-key": secrets.token_hex(32),
        "signing-key.pem": f"-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n",
        "admin-token": secrets.token_hex(20),
        # They begin with a letter: NATS would read digits as a number.
        "nats-password": f"n{secrets.token_hex(20)}",
        "redis-password": f"r{secrets.token_hex(20)}",
    }


def kept(path: Path) -> dict[str, str]:
    """Return the keys of this checkout, made the first time."""
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            json.dump(made(), file)
    found: dict[str, str] = json.loads(path.read_text())
    return found


def main(namespace: str) -> None:
    """Print both objects; JSON is YAML."""
    place = {"name": namespace}
    named = {"name": SECRET, "namespace": namespace}
    keys = kept(KEPT)
    print(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": place}))
    print("---")
    print(json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": named, "stringData": keys}))


if __name__ == "__main__":
    main(sys.argv[1])
