"""What doctor says that an installation takes is what the chart makes and grants."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import yaml
from tests.support import chart

from rallypoint.cli import doctor_rights
from rallypoint.cli.doctor_rights import Form, Kind

Named = tuple[str, str, bool]
Right = tuple[str, str, str, bool]
FORMS = {"operator.enabled": doctor_rights.OPERATOR, "probe.enabled": doctor_rights.PROBE}


def plural(kind: str) -> str:
    word = kind.lower()
    if word.endswith("y"):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith("s") else "s")


def rendered(objects: Iterable[chart.Object]) -> set[Named]:
    return {
        (
            one["apiVersion"].rpartition("/")[0],
            plural(one["kind"]),
            "namespace" not in one["metadata"],
        )
        for one in objects
    }


def granted(objects: Iterable[chart.Object]) -> set[Right]:
    return {
        (group, resource, verb, one["kind"] == "ClusterRole")
        for one in objects
        for rule in one.get("rules", [])
        if one["kind"] in {"Role", "ClusterRole"}
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def made(*forms: Form) -> set[Named]:
    return {(kind.group, kind.plural, kind.cluster_wide) for form in forms for kind in form.makes}


def asked(*forms: Form) -> set[Right]:
    kinds: list[Kind] = [kind for form in forms for kind in (*form.makes, *form.holds)]
    return {(k.group, k.plural, verb, k.cluster_wide) for k in kinds for verb in k.verbs}


def with_values(*settings: str) -> list[chart.Object]:
    words = [word for setting in settings for word in ("--set", setting)]
    done = chart.helm("template", "demo", str(chart.CHART), "--include-crds", *words)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def test_every_kind_of_the_chart_is_asked_for() -> None:
    every = [one for case in chart.CASES for one in chart.rendered(case)]
    assert rendered([*with_values(), *every]) == made(*doctor_rights.FORMS)
    assert granted(every) <= asked(*doctor_rights.FORMS)


def test_installation_with_nothing_set_takes_what_is_asked() -> None:
    assert rendered(with_values()) == made(doctor_rights.PLAIN)
    assert rendered(chart.rendered("small")) <= made(doctor_rights.PLAIN)


@pytest.mark.parametrize("switch", FORMS)
def test_form_takes_what_is_asked(switch: str) -> None:
    form = FORMS[switch]
    objects = with_values(f"{switch}=true")
    may = (doctor_rights.PLAIN, form)
    assert made(form) <= rendered(objects) <= made(*may)
    assert granted(objects) <= asked(*may)
