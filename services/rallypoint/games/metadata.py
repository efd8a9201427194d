"""What the list of rooms shows of a room: a few short texts by name."""

import re
from collections.abc import Mapping
from typing import Final

MAX_ENTRIES: Final = 16
MAX_VALUE_BYTES: Final = 128
MAX_BYTES: Final = 1024
_NAME: Final = re.compile(r"[a-z0-9_]{1,32}")


def checked(values: Mapping[str, object]) -> dict[str, str]:
    """The values as texts; ValueError for names, sizes or numbers of them that are not allowed."""
    texts = {name: str(value) for name, value in values.items()}
    sizes = [len(text.encode(errors="replace")) for text in texts.values()]
    if not all(map(_NAME.fullmatch, texts)):
        raise ValueError("names of metadata are [a-z0-9_]{1,32}")
    if len(texts) > MAX_ENTRIES or max(sizes, default=0) > MAX_VALUE_BYTES:
        raise ValueError(f"metadata has at most {MAX_ENTRIES} values of {MAX_VALUE_BYTES} bytes")
    if sum(sizes) + sum(map(len, texts)) > MAX_BYTES:
        raise ValueError(f"metadata has at most {MAX_BYTES} bytes")
    return texts
