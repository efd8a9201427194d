"""Messages from clients: which method answers a kind, and how often a player may send it."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from rallypoint.games import rates
from rallypoint.games.rates import Rate
from rallypoint.kit import errors

PLATFORM_KINDS = 1 << 31
"""Kinds from here on belong to the platform and its plug-ins."""
F = TypeVar("F", bound=Callable[..., bytes | None])


class Refused(errors.InvalidArgument):
    """The game says no: INVALID_ARGUMENT with a reason, UPPER_SNAKE. The room goes on."""


def message(kind: int, *, rate: str = "") -> Callable[[F], F]:
    """Mark a method as the answer to messages with this number; it returns the reply's bytes.

    Beyond the `rate` ("5/s") a player's message is refused: RESOURCE_EXHAUSTED `MESSAGE_RATE`.
    """
    limit = rates.parse(rate) if rate else None

    def mark(method: F) -> F:
        method.message_kind = kind  # type: ignore[attr-defined]
        method.message_rate = limit  # type: ignore[attr-defined]
        return method

    return mark


class Answering:
    """A class whose methods may be marked with `@message`."""

    message_methods: ClassVar[Mapping[int, str]] = {}
    message_rates: Mapping[int, Rate] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        marked = {n: m for n, m in vars(cls).items() if hasattr(m, "message_kind")}
        kinds = [method.message_kind for method in marked.values()]
        if twice := {kind for kind in kinds if kinds.count(kind) > 1}:
            raise ValueError(f"{cls.__name__}: two methods answer message {min(twice)}")
        limited = {m.message_kind: m.message_rate for m in marked.values() if m.message_rate}
        methods = {method.message_kind: name for name, method in marked.items()}
        cls.message_methods = {**cls.message_methods, **methods}
        cls.message_rates = {**cls.message_rates, **limited}
