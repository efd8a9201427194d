"""Evaluate a Tiltfile without Tilt: Starlark's own evaluator, and builtins that note their calls.

A call is refused as Tilt would refuse it: a builtin that it does not document, a keyword that the
builtin does not have, an argument that is missing. `helm` and `local` do what they say. What Tilt
checks afterwards against what was rendered is `faults`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import starlark
import yaml

from tests.support import chart

SIGNATURES = {
    "allow_k8s_contexts": "contexts!",
    "config.define_bool": "name! args usage",
    "config.define_string": "name! args usage",
    "config.define_string_list": "name! args usage",
    "config.parse": "",
    "docker_build": "ref! context! build_args dockerfile dockerfile_contents live_update "
    "match_in_env_vars ignore only entrypoint target ssh network secret extra_tag container_args "
    "cache_from pull platform",
    "fall_back_on": "files!",
    "helm": "pathToChartDir! name namespace values set kube_version",
    "k8s_kind": "kind! api_version image_json_path image_object_json_path pod_readiness",
    "k8s_resource": "workload new_name port_forwards extra_pod_selectors trigger_mode "
    "resource_deps objects auto_init pod_readiness links labels discovery_strategy",
    "k8s_yaml": "yaml! allow_duplicates",
    "local": "command! quiet command_bat echo_off env dir stdin",
    "local_resource": "name! cmd! deps trigger_mode resource_deps ignore auto_init serve_cmd "
    "cmd_bat serve_cmd_bat allow_parallel links tags env serve_env readiness_probe dir serve_dir "
    "labels",
    "port_forward": "local_port! container_port name link_path host",
    "run": "cmd! trigger",
    "sync": "local_path! remote_path!",
    "version_settings": "check_updates constraint",
}
"""The documented builtins that may be used here, their parameters in order; ! is required."""
STEPS = ("fall_back_on", "sync", "run")
WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod", "ReplicaSet"}

Call = dict[str, Any]


@dataclass
class Tilt:
    """What a Tiltfile declared."""

    root: Path
    settings: Mapping[str, object] = field(default_factory=dict)
    calls: dict[str, list[Call]] = field(default_factory=dict)
    objects: list[Call] = field(default_factory=list)

    def called(self, name: str) -> list[Call]:
        """The arguments of each call of a builtin, by parameter."""
        return self.calls.get(name, [])

    def evaluate(self, text: str) -> Tilt:
        """Evaluate; starlark.StarlarkError is what Tilt would tell."""
        module = starlark.Module()
        dialect = starlark.Dialect.extended()
        dialect.enable_top_level_stmt, dialect.enable_f_strings = True, False
        dialect.enable_types = starlark.DialectTypes.DISABLE
        known = starlark.Globals.extended_by([starlark.LibraryExtension.StructType])
        for name in SIGNATURES:
            module.add_callable(name.replace(".", "_"), self._builtin(name))
        fields = [name.partition(".")[2] for name in SIGNATURES if name.startswith("config.")]
        given = ", ".join(f"{name} = config_{name}" for name in fields)
        prelude = f"config = struct({given})\nTRIGGER_MODE_AUTO, TRIGGER_MODE_MANUAL = 0, 1\n"
        for place, code in (("prelude", prelude), ("Tiltfile", text)):
            starlark.eval(module, starlark.parse(place, code, dialect=dialect), known)
        return self

    def _builtin(self, name: str) -> Callable[..., object]:
        words = SIGNATURES[name].split()
        parameters = [word.rstrip("!") for word in words]
        required = [word.rstrip("!") for word in words if word.endswith("!")]
        does = getattr(self, f"_{name.replace('.', '_')}", None)

        def called(*given: object, **named: object) -> object:
            if len(given) > len(parameters):
                raise TypeError(f"{name}: got {len(given)} arguments, want at most {len(words)}")
            call: Call = {**dict(zip(parameters, given, strict=False)), **named}
            if unknown := set(call) - set(parameters):
                raise TypeError(f"{name}: unexpected keyword argument {sorted(unknown)}")
            if lacking := set(required) - set(call):
                raise TypeError(f"{name}: missing argument for {sorted(lacking)}")
            if len(given) + len(named) > len(call):
                raise TypeError(f"{name}: got multiple values for an argument")
            self.calls.setdefault(name, []).append(call)
            return does(**call) if does else {"is": name, **call}

        return called

    def _config_parse(self) -> object:
        return dict(self.settings)

    def _local(self, command: Sequence[str] | str, **_: object) -> str:
        shell = isinstance(command, str)
        done = subprocess.run(
            command, shell=shell, cwd=self.root, check=True, capture_output=True, text=True
        )
        return done.stdout

    def _helm(self, pathToChartDir: str, **told: Any) -> str:
        words = ["template", "--include-crds", told.get("name", "chart"), pathToChartDir]
        words += ["--namespace", told.get("namespace", "default")]
        for flag, name in (("--values", "values"), ("--set", "set")):
            words += [word for one in listed(told.get(name)) for word in (flag, one)]
        done = subprocess.run(
            [str(chart.HELM), *words], cwd=self.root, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout

    def _k8s_yaml(self, yaml: str, **_: object) -> None:
        self.objects += [one for one in _documents(yaml) if one]


def _documents(text: str) -> Iterator[Call]:
    yield from yaml.safe_load_all(text)


def listed(value: Any) -> list[Any]:
    """A value where Tilt takes one or a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def workloads(tilt: Tilt) -> dict[str, Call]:
    """The rendered objects that Tilt makes resources of, by name."""
    kinds = WORKLOADS | {call["kind"] for call in tilt.called("k8s_kind")}
    return {one["metadata"]["name"]: one for one in tilt.objects if one["kind"] in kinds}


def images(workload: Call) -> list[str]:
    """The images that a workload's containers name, without tags."""
    found: list[str] = []

    def look(at: object) -> None:
        if isinstance(at, dict):
            for key in ("containers", "initContainers"):
                found.extend(one["image"] for one in at.get(key) or () if "image" in one)
            for value in at.values():
                look(value)
        elif isinstance(at, list):
            for value in at:
                look(value)

    look(workload["spec"])
    return [name.rpartition(":")[0] for name in found]


def faults(tilt: Tilt) -> list[str]:
    """What Tilt, or a developer's day, would stumble over."""
    return [*_build_faults(tilt), *_resource_faults(tilt), *_file_faults(tilt)]


def _build_faults(tilt: Tilt) -> Iterator[str]:
    used = {name for one in workloads(tilt).values() for name in images(one)}
    for build in tilt.called("docker_build"):
        context = tilt.root / build["context"]
        if build["ref"] not in used:
            yield f"no workload has the image {build['ref']}"
        order = [STEPS.index(step["is"]) for step in build.get("live_update", [])]
        if order != sorted(order):
            yield f"steps of a live update must be in the order {STEPS}"
        only = [context / name for name in listed(build.get("only"))] or [context]
        for step in build.get("live_update", []):
            for name in listed(step.get("files")) + listed(step.get("local_path")):
                if not any((tilt.root / name).is_relative_to(one) for one in only):
                    yield f"{name} is not in what {build['ref']} is built from"
            if not step.get("remote_path", "/").startswith("/"):
                yield f"{step['remote_path']} is not absolute"
    declared = [
        str(step["is"]) for call in tilt.called("docker_build") for step in call["live_update"]
    ]
    for name in STEPS:
        if len(tilt.called(name)) != declared.count(name):
            yield f"a step of {name} belongs to no live update"


def _resource_faults(tilt: Tilt) -> Iterator[str]:
    known = set(workloads(tilt))
    local = {call["name"] for call in tilt.called("local_resource")}
    ports: list[object] = []
    for call in tilt.called("k8s_resource"):
        if call["workload"] not in known:
            yield f"k8s_resource {call['workload']}: no such workload"
            continue
        open_ports = _ports(workloads(tilt)[call["workload"]])
        for forward in listed(call.get("port_forwards")):
            ports.append(forward["local_port"])
            if forward["container_port"] not in open_ports:
                yield f"{call['workload']} does not listen on {forward['container_port']}"
    for call in tilt.called("k8s_resource") + tilt.called("local_resource"):
        for name in set(listed(call.get("resource_deps"))) - known - local:
            yield f"resource_deps {name}: no such resource"
    if len(ports) != len(set(ports)):
        yield "two port forwards use the same port"


def _ports(workload: Call) -> set[object]:
    text = json.dumps(workload)
    return {int(part.split(",")[0].rstrip("}] ")) for part in text.split('"containerPort": ')[1:]}


def _file_faults(tilt: Tilt) -> Iterator[str]:
    names = [call["pathToChartDir"] for call in tilt.called("helm")]
    names += [name for call in tilt.called("helm") for name in listed(call.get("values"))]
    names += [name for call in tilt.called("local_resource") for name in listed(call.get("deps"))]
    names += [name for call in tilt.called("docker_build") for name in listed(call.get("only"))]
    names += [call["local_path"] for call in tilt.called("sync")]
    names += [name for call in tilt.called("fall_back_on") for name in listed(call["files"])]
    for name in names:
        if not (tilt.root / name).exists():
            yield f"{name} does not exist"
