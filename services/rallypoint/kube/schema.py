"""Structural schemas from annotated types: one model is type, CRD and what kubectl explains.

    class Spec(Object, frozen=True, kw_only=True):
        replicas: Annotated[int, Field("How many are wanted.", minimum=0, maximum=50_000)] = 1

Types: str, int, float, bool, `Literal` (enum), `int | str` (int-or-string), tuples (arrays),
mappings of text, Object subclasses, `X | None` (may be absent), Any (free form). A field with a
default that says something gets it in the schema too, so that both sides mean the same by absence.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from rallypoint.kube.objects import Object

Schema = dict[str, Any]
_PLAIN: Mapping[object, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer", "format": "int64"},
    float: {"type": "number", "format": "double"},
    bool: {"type": "boolean"},
}
INT_OR_STRING: Schema = {"x-kubernetes-int-or-string": True}
FREE_FORM: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule that the API server enforces; `message` is what the user reads."""

    rule: str
    message: str
    field_path: str = ""

    def as_schema(self) -> Schema:
        """Return it as an entry of x-kubernetes-validations."""
        known = {"rule": self.rule, "message": self.message, "fieldPath": self.field_path}
        return {name: value for name, value in known.items() if value}


@dataclass(frozen=True, slots=True)
class Field:
    """What a type hint cannot say. Bounds are not only manners: CEL's cost is estimated by them."""

    doc: str
    minimum: int | None = None
    maximum: int | None = None
    pattern: str = ""
    format: str = ""
    min_length: int | None = None
    max_length: int | None = None
    min_items: int | None = None
    max_items: int | None = None
    max_properties: int | None = None
    item_pattern: str = ""
    item_max_length: int | None = None
    list_type: Literal["", "atomic", "set", "map"] = ""
    list_keys: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()


def _keywords(field: Field) -> Schema:
    known = {
        "minimum": field.minimum,
        "maximum": field.maximum,
        "pattern": field.pattern or None,
        "format": field.format or None,
        "minLength": field.min_length,
        "maxLength": field.max_length,
        "minItems": field.min_items,
        "maxItems": field.max_items,
        "maxProperties": field.max_properties,
        "x-kubernetes-list-type": field.list_type or None,
        "x-kubernetes-list-map-keys": list(field.list_keys) or None,
        "x-kubernetes-validations": [rule.as_schema() for rule in field.rules] or None,
    }
    return {name: value for name, value in known.items() if value is not None}


def of_type(hint: Any) -> Schema:
    """Return the schema of a type hint."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _annotated(arguments[0], arguments[1:])
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    if hint is Any:
        return dict(FREE_FORM)
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return _union(arguments)
    if origin is tuple:
        return {"type": "array", "items": of_type(arguments[0])}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if arguments[1] is Any:
            return dict(FREE_FORM)
        return {"type": "object", "additionalProperties": of_type(arguments[1])}
    if isinstance(hint, type) and issubclass(hint, Object):
        return of_object(hint)
    raise TypeError(f"no structural schema for {hint!r}")


def of_object(kind: type[Object], *, only: Sequence[str] = ()) -> Schema:
    """Return the schema of an Object; its docstring is the description."""
    hints = get_type_hints(kind, include_extras=True)
    properties: Schema = {}
    required: list[str] = []
    for field in msgspec.structs.fields(kind):
        if only and field.name not in only:
            continue
        schema = of_type(hints[field.name])
        if (default := _default(field)) is not None:
            schema["default"] = default
        elif field.required:
            required.append(field.encode_name)
        properties[field.encode_name] = schema
    whole: Schema = {"type": "object", "description": _doc(kind), "properties": properties}
    if required:
        whole["required"] = required
    if rules := getattr(kind, "__rules__", ()):
        whole["x-kubernetes-validations"] = [rule.as_schema() for rule in rules]
    return whole


def _annotated(hint: Any, extras: tuple[Any, ...]) -> Schema:
    schema = of_type(hint)
    for field in extras:
        if not isinstance(field, Field):
            continue
        own_rules = schema.get("x-kubernetes-validations", [])
        schema |= _keywords(field) | {"description": field.doc}
        if own_rules and field.rules:
            schema["x-kubernetes-validations"] += own_rules
        if field.item_pattern:
            schema["items"]["pattern"] = field.item_pattern
        if field.item_max_length is not None:
            schema["items"]["maxLength"] = field.item_max_length
    return schema


def _union(arguments: tuple[Any, ...]) -> Schema:
    real = [argument for argument in arguments if argument is not type(None)]
    if set(real) == {int, str}:
        return dict(INT_OR_STRING)
    if len(real) != 1:
        raise TypeError(f"no structural schema for a union of {real}")
    return of_type(real[0])


def _default(field: msgspec.structs.FieldInfo) -> Any:
    """Return a default worth writing down: none for what is merely empty."""
    if field.default is msgspec.NODEFAULT or field.default in (None, "", (), {}):
        return None
    return _spelled_out(field.default)


def _spelled_out(value: Any) -> Any:
    """Return a default with its own defaults: rules look at it before those are filled in."""
    if not isinstance(value, Object):
        return list(value) if isinstance(value, tuple) else value
    known = {
        field.encode_name: getattr(value, field.name) for field in msgspec.structs.fields(value)
    }
    return {
        name: _spelled_out(inner)
        for name, inner in known.items()
        if inner not in (None, "", (), {})
    }


def _doc(kind: type[Object]) -> str:
    return " ".join((kind.__doc__ or "").split())
