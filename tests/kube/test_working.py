"""Informers, controllers and events together: what a small operator is made of."""

from __future__ import annotations

import asyncio
import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from rallypoint.kube import config, errors
from rallypoint.kube.api import Api, Scope
from rallypoint.kube.config import ClusterConfig, ExecPlugin
from rallypoint.kube.controller import Controller
from rallypoint.kube.domain.selectors import Selector
from rallypoint.kube.domain.store import Change, by_namespace
from rallypoint.kube.informer import Informers
from rallypoint.kube.kinds import CONFIG_MAPS, EVENTS, NAMESPACES
from rallypoint.kube.objects import ConfigMap
from rallypoint.kube.recorder import Recorder
from rallypoint.kube.transport import Patience, Transport
from tests.kube.conftest import Runs
from tests.kube.stack import config_map, config_maps, connected, informed, until
from tests.support.kubernetes import ApiServer

pytestmark = pytest.mark.usefixtures("uncontrolled")


def test_an_informer_is_shared_and_tells_all_its_readers(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    async def scenario() -> None:
        async with connected(server) as transport, Informers(transport, manager="t") as informers:
            scope = Scope(namespace)
            cache = informers.informer(CONFIG_MAPS, scope)
            assert informers.informer(CONFIG_MAPS, scope) is cache
            cache.add_index("namespace", by_namespace)
            told: list[tuple[str, bool, bool]] = []
            blue: list[tuple[str, bool, bool]] = []

            def note(into: list[tuple[str, bool, bool]], change: Change[ConfigMap]) -> None:
                into.append((change.key, change.old is not None, change.new is not None))

            def raises(_: Change[ConfigMap]) -> None:
                raise RuntimeError("a reader's bug")

            cache.on_change(raises)
            cache.on_change(lambda change: note(told, change))
            cache.on_change(
                lambda change: note(blue, change), only=lambda item: item.data.get("c") == "blue"
            )
            await cache.wait_synced()
            api = config_maps(transport)
            await api.create(config_map("a", namespace, c="red"))
            await api.merge_patch("a", {"data": {"c": "blue"}}, namespace=namespace)
            await api.merge_patch("a", {"data": {"c": "red"}}, namespace=namespace)
            await api.delete("a", namespace=namespace)
            await until(lambda: len(told) == 4)
            key = f"{namespace}/a"
            assert told == [
                (key, False, True), (key, True, True), (key, True, True), (key, True, False),
            ]  # fmt: skip
            assert blue == [(key, False, True), (key, True, False)]
            assert cache.lister.by_index("namespace", namespace) == []

    runs(scenario())


def test_a_reader_that_comes_late_is_told_what_is_there(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    async def scenario() -> None:
        async with connected(server) as transport, informed(transport, namespace) as cache:
            made = await config_maps(transport).create(config_map("a", namespace))
            await cache.wait_synced()
            await cache.wait_version(made.metadata.resource_version)
            names: list[str] = []
            cache.on_change(lambda change: names.append(change.present.metadata.name))
            assert names == ["a"]
            assert cache.lister.get("a", namespace=namespace) is not None
            assert cache.lister.select(Selector({"no": "such"})) == []

    runs(scenario())


def test_a_controller_brings_the_world_where_it_should_be(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    """Each `want` makes a `have`; some first tries fail, and events of one key are one pass."""

    async def scenario() -> None:
        async with connected(server) as transport, informed(transport, namespace) as cache:
            api = config_maps(transport, "controller")
            failing = {"want-1", "want-3"}
            at_once: set[str] = set()

            async def reconcile(key: str) -> float | None:
                assert key not in at_once
                at_once.add(key)
                try:
                    name = key.rpartition("/")[2]
                    if name in failing:
                        failing.discard(name)
                        raise errors.Unavailable("not yet", cluster="test")
                    have = name.replace("want", "have")
                    await api.apply(have, {"data": {"of": name}}, namespace=namespace)
                finally:
                    at_once.discard(key)
                return None

            controller = Controller("have", reconcile, workers=3)
            cache.on_change(
                lambda change: controller.add(change.key),
                only=lambda item: item.metadata.name.startswith("want"),
            )
            working = asyncio.create_task(controller.run())
            users = config_maps(transport, "user")
            for number in range(6):
                await users.create(config_map(f"want-{number}", namespace))
            await until(lambda: len(cache.lister) == 12)
            idle = controller.statistics()
            assert (idle.ready, idle.working, idle.failing) == (0, 0, 0)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    runs(scenario())


def test_events_are_seen_by_kubectl_and_counted(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    async def scenario() -> None:
        async with connected(server) as transport:
            item = await config_maps(transport).create(config_map("a", namespace))
            events = Api(transport, EVENTS, manager="recorder")
            recorder = Recorder(events, component="test", instance="test-1")
            writing = asyncio.create_task(recorder.run())
            about = CONFIG_MAPS.reference(item)
            for _ in range(100):
                recorder.record(about, reason="Full", note="no room left", type="Warning")
            recorder.record(about, reason="Scaled", note="one more")
            await recorder.wait_written()
            writing.cancel()
            shown = await asyncio.to_thread(server.does, "-n", namespace, "describe", "cm", "a")
            assert "no room left" in shown
            assert "one more" in shown
            assert len(await events.list(Scope(namespace))) == 2

    runs(scenario())


PLUGIN = """#!/bin/sh
echo "$KUBERNETES_EXEC_INFO" > "{folder}/asked"
echo run >> "{folder}/runs"
cat <<END
{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
  "status": {{"token": "$(cat {folder}/token)"}}}}
END
"""


def account_token(server: ApiServer, namespace: str) -> str:
    """A token of a service account that may read ConfigMaps."""
    server.does("-n", namespace, "create", "serviceaccount", "robot")
    server.does(
        "-n", namespace, "create", "role", "robot", "--verb=list", "--resource=configmaps"
    )  # fmt: skip
    server.does(
        "-n", namespace, "create", "rolebinding", "robot", "--role=robot",
        f"--serviceaccount={namespace}:robot",
    )  # fmt: skip
    return server.does("-n", namespace, "create", "token", "robot").strip()


@pytest.fixture
def robot(server: ApiServer, namespace: str, tmp_path: Path) -> tuple[ClusterConfig, Path]:
    """A configuration whose token comes from a plug-in, and the folder that the plug-in uses."""
    (tmp_path / "token").write_text(account_token(server, namespace))
    program = tmp_path / "plugin"
    program.write_text(PLUGIN.format(folder=tmp_path))
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    plugin = ExecPlugin(str(program), "client.authentication.k8s.io/v1", provide_cluster_info=True)
    ca = server.ca_file.read_bytes()
    return ClusterConfig("robot", server.url, ca=ca, exec_plugin=plugin), tmp_path


def test_a_plug_ins_token_is_used_kept_and_renewed(
    runs: Runs, server: ApiServer, namespace: str, robot: tuple[ClusterConfig, Path]
) -> None:
    settings, folder = robot

    async def scenario() -> None:
        good = (folder / "token").read_text()
        (folder / "token").write_text("stale")
        async with Transport(settings) as transport:
            api = config_maps(transport)
            with pytest.raises(errors.Unauthorized, match="cluster robot"):
                await api.list(Scope(namespace))
            (folder / "token").write_text(good)
            for _ in range(3):
                await api.list(Scope(namespace))
            with pytest.raises(errors.Forbidden, match="cannot create"):
                await api.create(config_map("a", namespace))
        asked = json.loads((folder / "asked").read_text())
        assert asked["spec"]["cluster"]["server"] == server.url
        assert (folder / "runs").read_text().count("run") <= 4

    runs(scenario())


def test_a_service_accounts_token_works_from_inside_a_pod(
    runs: Runs, server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "ca.crt").write_bytes(server.ca_file.read_bytes())
    (tmp_path / "namespace").write_text(namespace)
    (tmp_path / "token").write_text(account_token(server, namespace))
    host, _, port = server.url.removeprefix("https://").partition(":")
    server.does("-n", namespace, "create", "configmap", "a")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}

    async def scenario() -> None:
        async with Transport(config.in_cluster(environ, account=tmp_path)) as transport:
            assert await config_maps(transport).list(Scope(namespace)) != []
            with pytest.raises(errors.Forbidden):
                await Api(transport, NAMESPACES, manager="t").delete(namespace)

    runs(scenario())


def test_a_server_is_known_by_the_name_its_certificate_has(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    plain = config.from_files([server.kubeconfig])

    async def scenario() -> None:
        async with Transport(replace(plain, tls_server_name="localhost")) as transport:
            assert await config_maps(transport).list(Scope(namespace)) == []
        wrong = replace(plain, tls_server_name="elsewhere.example")
        async with Transport(wrong, patience=Patience(tries=1)) as transport:
            with pytest.raises(errors.Unavailable, match=r"cluster test: .*Certificate"):
                await config_maps(transport).list(Scope(namespace))

    runs(scenario())


def test_a_plug_in_that_is_missing_says_how_to_get_it(runs: Runs, server: ApiServer) -> None:
    plugin = ExecPlugin("/no/such/plugin", "v1", install_hint="Install the plug-in from X.")
    settings = ClusterConfig("cloud", server.url, exec_plugin=plugin)

    async def scenario() -> None:
        async with Transport(settings) as transport:
            with pytest.raises(errors.Unauthorized, match=r"cluster cloud: .*Install the plug-in"):
                await Api(transport, NAMESPACES, manager="t").list()

    runs(scenario())
