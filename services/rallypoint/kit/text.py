"""Text that players wrote and others see: readable, on one line, of bounded length."""

from __future__ import annotations

import unicodedata


def one_line(text: str, most_characters: int) -> str:
    """Return a text without what cannot be shown, its spaces single, cut to a length."""
    composed = unicodedata.normalize("NFKC", text)
    spaced = "".join(" " if character.isspace() else character for character in composed)
    shown = "".join(character for character in _few_marks(spaced) if _is_shown(character))
    return " ".join(shown.split())[:most_characters].strip()


def _is_shown(character: str) -> bool:
    # Controls, formats (bidi overrides, zero width), surrogates, private use, unassigned.
    return unicodedata.category(character)[0] != "C"


def _few_marks(text: str) -> str:
    """At most two combining marks in a row, so that a text stays on its line."""
    kept: list[str] = []
    run = 0
    for character in text:
        run = run + 1 if unicodedata.combining(character) else 0
        if run <= 2:
            kept.append(character)
    return "".join(kept)
