"""Settings: one frozen dataclass per process, read once from the environment.

Field `web_port` comes from `RALLYPOINT_WEB_PORT`; nested dataclasses are flattened into the same
namespace. Types: str, int, float, bool (1/0, true/false, yes/no, on/off), Path, tuple[str, ...]
(comma separated), and `X | None` (empty means None). An absent variable means the field's default.
A whole number named `…_port` is at most 65535.
A bad value, or an absent one without default, raises SettingsError with the variable's name and the
remedy.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

PREFIX = "RALLYPOINT_"
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}
_PORT_MAX = 65_535

T = TypeVar("T")


class SettingsError(Exception):
    """A setting cannot be used. The text names the variable and says what would do."""


def load(cls: type[T], environ: Mapping[str, str]) -> T:
    """Return an instance of the dataclass `cls` filled from `environ`."""
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # T is a dataclass
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            values[field.name] = load(typing.cast("type[Any]", kind), environ)
            continue
        variable = PREFIX + field.name.upper()
        if variable in environ:
            values[field.name] = _parse(variable, environ[variable], kind)
        elif _required(field):
            raise SettingsError(f"{variable} is not set: set it to {_wanted(kind)}")
    return cls(**values)


def variables(cls: type[Any]) -> Iterator[tuple[str, str]]:
    """Each variable that `load` reads and its default, as one would write it; "-" when required."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(kind := hints[field.name]):
            yield from variables(typing.cast("type[Any]", kind))
            continue
        yield PREFIX + field.name.upper(), "-" if _required(field) else _written(_default(field))


def _default(field: dataclasses.Field[Any]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _parse(variable: str, text: str, kind: Any) -> Any:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        inner = [option for option in typing.get_args(kind) if option is not type(None)]
        return None if text == "" else _parse(variable, text, inner[0])
    if typing.get_origin(kind) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind is bool:
        return _parse_bool(variable, text)
    if kind in (str, int, float, Path):
        try:
            value = kind(text)
        except ValueError:
            raise SettingsError(f"{variable} is {text!r}: set it to {_wanted(kind)}") from None
        if kind is int and variable.endswith("_PORT") and value > _PORT_MAX:
            raise SettingsError(f"{variable} is {text}: set it to at most {_PORT_MAX}")
        return value
    raise SettingsError(f"{variable} has a type that cannot be read from the environment: {kind}")


def _parse_bool(variable: str, text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise SettingsError(f"{variable} is {text!r}: set it to {_wanted(bool)}")


def _wanted(kind: Any) -> str:
    wanted = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
    return wanted.get(kind, "a text")
