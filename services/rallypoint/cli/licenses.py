"""`rallypoint licenses`: what is installed for Rallypoint, and under which license.

Follows the requirements of the distribution `rallypoint` through the installed metadata; nothing is
fetched. Exit code 1 when a distribution names no license at all.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata

ROOT = "rallypoint"
REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^]]*)\])?")
EXTRA = re.compile(r"extra\s*==\s*[\"']([^\"']+)")
CLASSIFIER = "License :: "
UNKNOWN = "UNKNOWN"
LONGEST = 60
"""Some put the whole text into the field: then the classifier says it better."""


@dataclass(frozen=True, slots=True)
class Licensed:
    """One distribution."""

    name: str
    version: str
    license: str


def run(arguments: list[str]) -> int:
    """Print the list; the result is the exit code."""
    parser = argparse.ArgumentParser(prog="rallypoint licenses", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parsed = parser.parse_args(arguments)
    found = sorted(installed(ROOT), key=lambda one: one.name.lower())
    if parsed.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    else:
        width = max((len(one.name) + len(one.version) for one in found), default=0) + 1
        for one in found:
            print(f"{f'{one.name} {one.version}':{width}}  {one.license}")
    return 1 if any(one.license == UNKNOWN for one in found) else 0


def installed(root: str) -> Iterator[Licensed]:
    """What a distribution requires, however far, without itself; what is not installed is out."""
    waiting = [(root, frozenset[str]())]
    seen: set[tuple[str, frozenset[str]]] = set()
    told = {_plain(root)}
    while waiting:
        name, extras = waiting.pop()
        if (_plain(name), extras) in seen:
            continue
        seen.add((_plain(name), extras))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another platform or Python
        if _plain(name) not in told:
            told.add(_plain(name))
            yield Licensed(name, distribution.version, license_of(distribution.metadata))
        waiting += _required(distribution, extras)


def license_of(about: metadata.PackageMetadata) -> str:
    """The license expression, else the short field, else the classifiers."""
    known = {key: about[key] for key in ("License-Expression", "License") if key in about}
    if expression := known.get("License-Expression"):
        return expression
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in about.get_all("Classifier") or []
        if line.startswith(CLASSIFIER)
    ]
    short = (known.get("License") or "").strip()
    if short and len(short) <= LONGEST and "\n" not in short and short != UNKNOWN:
        return short
    return ", ".join(classifiers) or UNKNOWN


def _required(
    distribution: metadata.Distribution, extras: frozenset[str]
) -> Iterator[tuple[str, frozenset[str]]]:
    """Names, each with the extras that are asked for."""
    for line in distribution.requires or ():
        requirement, _, marker = line.partition(";")
        only = EXTRA.search(marker)
        found = REQUIREMENT.match(requirement)
        if found and (only is None or only[1] in extras):
            asked = (part.strip() for part in (found[2] or "").split(","))
            yield found[1], frozenset(part for part in asked if part)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
