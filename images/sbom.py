"""What an image is made of, as CycloneDX 1.6: Python, the pages' npm packages and Debian's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email import message_from_string
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

LICENSE_CLASSIFIER = "License :: OSI Approved :: "


def write(target: Path, libraries: Path, *packages: Path, pages: Path | None = None) -> None:
    """Write the document of a folder of distributions with these lists of Debian packages, and of
    the pages that come along."""
    found = [*distributions(libraries), *(one for folder in packages for one in debian(folder))]
    found += bundled(pages / "licenses.json") if pages is not None else ()
    own = next(one for one in found if one["name"] == "rallypoint")
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**own, "type": "application"}},
        "components": sorted((one for one in found if one is not own), key=lambda one: one["purl"]),
    }
    target.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


def distributions(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a component for each distribution installed in a folder."""
    for one in metadata.distributions(path=[str(folder)]):
        told = one.metadata
        purl = f"pkg:pypi/{told['Name'].lower().replace('_', '-')}@{one.version}"
        yield component(told["Name"], one.version, purl, license_of(told))


def bundled(listed: Path) -> Iterator[dict[str, Any]]:
    """Yield a component for each npm package that the pages hold."""
    for one in json.loads(listed.read_text()):
        purl = f"pkg:npm/{quote(one['name'], safe='/')}@{one['version']}"
        yield component(one["name"], one["version"], purl, one["license"])


def license_of(told: metadata.PackageMetadata) -> str:
    """Return the licence as the distribution tells it: expression, classifier or first line."""
    if expression := told.get("License-Expression"):
        return str(expression)
    for classifier in told.get_all("Classifier") or ():
        if classifier.startswith(LICENSE_CLASSIFIER):
            return str(classifier.removeprefix(LICENSE_CLASSIFIER))
    return str(told.get("License") or "").partition("\n")[0]


def debian(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a component for each package that the base lists in dpkg's status.d."""
    for path in sorted(folder.iterdir()):
        told = message_from_string(path.read_text())
        if path.name.endswith(".md5sums") or not told["Package"]:
            continue
        name, version = told["Package"], told["Version"]
        purl = f"pkg:deb/debian/{name}@{version}?arch={told['Architecture']}&distro=debian-13"
        yield component(name, version, purl, "")


def component(name: str, version: str, purl: str, licence: str) -> dict[str, Any]:
    """Return one component; its purl is its reference too."""
    made: dict[str, Any] = {"type": "library", "name": name, "version": version}
    made |= {"purl": purl, "bom-ref": purl}
    return {**made, "licenses": [{"license": {"name": licence}}]} if licence else made
