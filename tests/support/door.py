"""Whether players come in: a cluster's network hears of a pod later than its kubelet does."""

from __future__ import annotations

import time
import urllib.request
from typing import Final

ANSWER_S: Final = 5
LOOK_S: Final = 0.5


def opens_within(url: str, within_s: float) -> bool:
    """Wait until a page is there; False when it did not come in that time."""
    give_up = time.monotonic() + within_s
    while not opens(url):
        if time.monotonic() > give_up:
            return False
        time.sleep(LOOK_S)
    return True


def opens(url: str) -> bool:
    """Whether a page is there now."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S):
            return True
    except OSError:
        return False
