"""Typed calls against the real API server: reads, writes, patches, apply, conflicts, deletes."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from rallypoint.kube import errors
from rallypoint.kube.api import Api, Scope
from rallypoint.kube.domain import patches
from rallypoint.kube.domain.selectors import Selector
from rallypoint.kube.kinds import NAMESPACES, Kind
from rallypoint.kube.objects import ConfigMap, Resource
from tests.kube.conftest import Runs
from tests.kube.stack import config_map, config_maps, connected
from tests.support.kubernetes import ApiServer


def test_objects_are_made_read_changed_and_deleted(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    async def scenario() -> None:
        async with connected(server) as transport:
            api = config_maps(transport)
            made = await api.create(config_map("a", namespace, color="red"))
            assert made.metadata.uid
            assert (await api.get("a", namespace=namespace)).data == {"color": "red"}
            changed = msgspec.structs.replace(made, data={"color": "blue"})
            assert (await api.replace(changed)).data == {"color": "blue"}
            await api.delete("a", namespace=namespace, uid=made.metadata.uid)
            with pytest.raises(errors.NotFound):
                await api.get("a", namespace=namespace)

    runs(scenario())


def test_errors_name_the_cluster_and_what_was_asked(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    async def scenario() -> None:
        async with connected(server) as transport:
            api = config_maps(transport)
            with pytest.raises(errors.NotFound, match=r"cluster test: GET /api/v1/.*: 404"):
                await api.get("absent", namespace=namespace)
            await api.create(config_map("a", namespace))
            with pytest.raises(errors.AlreadyExists) as caught:
                await api.create(config_map("a", namespace))
            assert caught.value.metadata == {"cluster": "test"}
            with pytest.raises(errors.Invalid, match="lowercase RFC 1123"):
                await api.create(config_map("Not A Name", namespace))

    runs(scenario())


def test_lists_come_in_pages_and_by_selector(runs: Runs, server: ApiServer, namespace: str) -> None:
    async def scenario() -> None:
        async with connected(server) as transport:
            api = config_maps(transport)
            for number in range(25):
                label = {"metadata": {"labels": {"odd": str(number % 2)}}}
                await api.apply(f"c{number:02}", label, namespace=namespace)
            scope = Scope(namespace, labels=Selector({"odd": "1"}))
            pages = [page async for page in api.pages(scope, limit=5)]
            assert [len(page.items) for page in pages] == [5, 5, 2]
            assert len({page.version for page in pages}) == 1
            assert len(await api.list(Scope(namespace, fields="metadata.name=c03"))) == 1

    runs(scenario())


def test_apply_gives_each_field_one_owner(runs: Runs, server: ApiServer, namespace: str) -> None:
    async def scenario() -> None:
        async with connected(server) as transport:
            mine, theirs = (config_maps(transport, name) for name in ("mine", "theirs"))
            await mine.apply("a", {"data": {"x": "1", "y": "1"}}, namespace=namespace)
            await theirs.apply("a", {"data": {"z": "2"}}, namespace=namespace)
            with pytest.raises(errors.Conflict, match='conflict with "mine"'):
                await theirs.apply("a", {"data": {"x": "2", "z": "2"}}, namespace=namespace)
            forced = await theirs.apply("a", {"data": {"x": "2"}}, namespace=namespace, force=True)
            assert forced.data == {"x": "2", "y": "1"}  # z was given up, y stays mine
            given_up = await mine.apply("a", {"data": {}}, namespace=namespace)
            assert given_up.data == {"x": "2"}

    runs(scenario())


def test_patches_change_only_what_they_name(runs: Runs, server: ApiServer, namespace: str) -> None:
    async def scenario() -> None:
        async with connected(server) as transport:
            api = config_maps(transport)
            await api.create(config_map("a", namespace, x="1", y="1"))
            merged = await api.merge_patch(
                "a", {"data": {"x": None, "z": "3"}}, namespace=namespace
            )
            assert merged.data == {"y": "1", "z": "3"}
            at = patches.pointer("data", "y")
            steps = [patches.test(at, "1"), patches.replace(at, "2")]
            assert (await api.json_patch("a", steps, namespace=namespace)).data["y"] == "2"
            with pytest.raises(errors.Invalid):
                await api.json_patch("a", steps, namespace=namespace)

    runs(scenario())


def test_concurrent_updates_all_take_place(runs: Runs, server: ApiServer, namespace: str) -> None:
    """Each reads again after a conflict; none overwrites another."""

    def plus_one(item: ConfigMap) -> ConfigMap:
        return msgspec.structs.replace(item, data={"n": str(int(item.data["n"]) + 1)})

    async def scenario() -> None:
        async with connected(server) as transport:
            api = config_maps(transport)
            stale = await api.create(config_map("a", namespace, n="0"))
            updates = [
                api.update("a", plus_one, namespace=namespace, cached=stale, tries=20)
                for _ in range(6)
            ]
            await asyncio.gather(*updates)
            assert (await api.get("a", namespace=namespace)).data == {"n": "6"}
            with pytest.raises(errors.Conflict):
                await api.replace(stale)

    runs(scenario())


def test_an_update_keeps_what_the_type_does_not_name(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    class Bare(Resource, frozen=True, kw_only=True):
        pass

    kind = Kind("", "v1", "ConfigMap", "configmaps", Bare)

    def labelled(item: Bare) -> Bare:
        meta = msgspec.structs.replace(item.metadata, labels={"seen": "yes"})
        return msgspec.structs.replace(item, metadata=meta)

    async def scenario() -> None:
        async with connected(server) as transport:
            api = config_maps(transport)
            await api.create(config_map("a", namespace, x="1"))
            await Api(transport, kind, manager="test").update("a", labelled, namespace=namespace)
            found = await api.get("a", namespace=namespace)
            assert (found.data, found.metadata.labels) == ({"x": "1"}, {"seen": "yes"})

    runs(scenario())


def test_a_delete_is_of_that_very_object_or_refused(
    runs: Runs, server: ApiServer, namespace: str
) -> None:
    async def scenario() -> None:
        async with connected(server) as transport:
            api = config_maps(transport)
            old = await api.create(config_map("a", namespace))
            await api.merge_patch("a", {"data": {"x": "1"}}, namespace=namespace)
            with pytest.raises(errors.Conflict):
                await api.delete("a", namespace=namespace, version=old.metadata.resource_version)
            with pytest.raises(errors.Conflict):
                await api.delete("a", namespace=namespace, uid="another")
            assert await api.get("a", namespace=namespace)

    runs(scenario())


def test_cluster_wide_kinds_have_no_namespace(runs: Runs, server: ApiServer) -> None:
    async def scenario() -> None:
        async with connected(server) as transport:
            found = await Api(transport, NAMESPACES, manager="test").get("kube-system")
            assert found.key == "kube-system"

    runs(scenario())
