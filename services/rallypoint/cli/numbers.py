"""Whole numbers of the command line, refused in words a user knows."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """What argparse's `type=` takes: a whole number within bounds."""
    wanted = f"a whole number, {least} or more"
    if most is not None:
        wanted = f"a whole number from {least} to {most}"

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"must be {wanted}, not {text!r}")
        return number

    return read
