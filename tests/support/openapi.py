"""JSON schemas of an API server's kinds, for kubeconform, from what the server says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

Schema = dict[str, Any]

TEMPLATE: Final = "{{.Group}}_{{.ResourceAPIVersion}}_{{.ResourceKind}}.json"
"""How kubeconform finds what `write` wrote; the group of what has none is its version there."""
_REFERENCE: Final = "#/definitions/"
_KINDS: Final = "x-kubernetes-group-version-kind"
_QUANTITY: Final = "io.k8s.apimachinery.pkg.api.resource.Quantity"


def kinds(document: Schema) -> dict[tuple[str, str], str]:
    """The definition of each kind of an OpenAPI v2 document, by its apiVersion and its name."""
    found = {}
    for name, schema in document["definitions"].items():
        told = schema.get(_KINDS, [])
        if len(told) == 1:  # what has several is for requests
            (one,) = told
            version = f"{one['group']}/{one['version']}".removeprefix("/")
            found[version, one["kind"]] = name
    return found


def write(document: Schema, folder: Path) -> None:
    """Write a schema of each kind, which refuses fields that the kind does not have."""
    definitions = {name: _strict(name, one) for name, one in document["definitions"].items()}
    for (version, kind), name in kinds(document).items():
        group, _, short = version.rpartition("/")
        used = {each: definitions[each] for each in _used(definitions, name)}
        path = folder / f"{group or short}_{short}_{kind.lower()}.json"
        path.write_text(json.dumps({"$ref": f"{_REFERENCE}{name}", "definitions": used}))


def _strict(name: str, schema: Schema) -> Schema:
    if name == _QUANTITY:
        return {"type": ["string", "number"]}
    made: Schema = _refusing(schema)
    return made


def _refusing(part: Any) -> Any:
    """The same, refusing unknown fields wherever fields are named."""
    if isinstance(part, list):
        return [_refusing(one) for one in part]
    if not isinstance(part, dict):
        return part
    if part.get("format") == "int-or-string":
        return {"type": ["string", "integer"]}
    made = {key: _refusing(value) for key, value in part.items()}
    is_open = part.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in part
    # A property may be called "properties": then this is no schema, and what it holds is one.
    if isinstance(part.get("properties"), dict) and part.get("type") == "object" and not is_open:
        made["additionalProperties"] = False
    return made


def _used(definitions: dict[str, Schema], name: str) -> set[str]:
    """What a definition refers to, itself, and so on."""
    found, open_ = {name}, [name]
    while open_:
        for other in _references(definitions[open_.pop()]):
            if other not in found:
                found.add(other)
                open_.append(other)
    return found


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for one in part:
            yield from _references(one)
    elif isinstance(part, dict):
        if isinstance(found := part.get("$ref"), str):
            yield found.removeprefix(_REFERENCE)
        for one in part.values():
            yield from _references(one)
