"""Autoscaling through /scale alone, what stops it, and the webhook that looks at sets."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from rallypoint.fleet import resources
from rallypoint.fleet.operator import webhooks
from rallypoint.kit import errors as kit_errors
from rallypoint.kit import keys
from rallypoint.kit.names import SetName
from rallypoint.kit.store import Store
from rallypoint.kube import errors
from rallypoint.kube.api import Api
from rallypoint.kube.certificates import Certificates
from rallypoint.kube.kinds import SECRETS
from tests.kube.conftest import Fleets, Runs
from tests.kube.fleet_stack import Fleet, template

HASTY = {
    "min": 1,
    "max": 4,
    "policies": [{"name": "rooms", "type": "RoomBuffer", "buffer": 2}],
    "scaleOut": {"maxStep": 4, "periodSeconds": 1},
    "scaleIn": {"stabilizationSeconds": 1, "maxStep": 4, "periodSeconds": 1},
}
SPEC: dict[str, Any] = {
    "capacity": {"rooms": 2},
    "scaleIn": {"minIdleSeconds": 0},
    "autoscaling": HASTY,
}


async def owners(fleet: Fleet) -> dict[str, str]:
    """Who owns what of the set: managers by the subresource they write through."""
    printed = await asyncio.to_thread(
        fleet.cluster.does, "-n", fleet.namespace, "get", "rgss", fleet.name,
        "--show-managed-fields", "-o",
        "jsonpath={range .metadata.managedFields[*]}{.manager}={.subresource} {end}",
    )  # fmt: skip
    return dict(one.split("=") for one in printed.split())


def test_the_number_follows_the_rooms_and_is_left_to_whoever_claims_it(
    runs: Runs, fleets: Fleets
) -> None:
    async def scenario() -> None:
        async with fleets(capacity=2) as fleet:
            fleet.operator(RALLYPOINT_AUTOSCALE_PERIOD_S="0.5")
            await fleet.apply(**SPEC)
            await fleet.ready(1)
            rooms = [f"{fleet.name}-{n}" for n in range(2)]
            for room in rooms:
                await fleet.allocate(room)
            await fleet.ready(2)
            assert fleet.set.spec.replicas == 2
            assert "rooms needs 2" in str(fleet.status("last_scale_reason"))
            # A custom resource's /scale leaves no owner behind: the spec is the person's alone.
            assert await owners(fleet) == {"person": "", "fleet-operator": "status"}
            for room in rooms:
                await fleet.release(room)
            await fleet.until(lambda: len(fleet.phases()) == 1, "one server")
            await fleet.apply(replicas=3, **SPEC)
            await fleet.until(
                lambda: fleet.condition("ReplicasOwnedElsewhere") == "True", "the other owner"
            )
            assert fleet.set.spec.replicas == 3

    runs(scenario())


def test_who_was_refused_has_a_set_grow_from_none(runs: Runs, fleets: Fleets) -> None:
    async def scenario() -> None:
        async with fleets(capacity=2) as fleet:
            fleet.operator(RALLYPOINT_AUTOSCALE_PERIOD_S="0.5")
            policy = {"name": "rooms", "type": "RoomBuffer", "buffer": 0}
            scaling = {**HASTY, "min": 0, "policies": [policy]}
            patience = {"claimTTLSeconds": 7}
            await fleet.apply(**{**SPEC, "autoscaling": scaling, "allocation": patience})
            await fleet.until(lambda: fleet.status("observed_generation") is not None, "a look")
            room = f"{fleet.name}-r"
            with pytest.raises(kit_errors.ResourceExhausted, match="FLEET_FULL"):
                await fleet.allocate(room)
            await fleet.ready(1)
            assert await fleet.allocate(room) == f"{fleet.name}-0"
            store = await Store.connect(fleet.brokers.redis.url)
            assert await store.get(keys.fleet_claim_ttl(SetName(fleet.name))) == b"7000"
            await store.close()

    runs(scenario())


@asynccontextmanager
async def studio(answer: dict[str, int], asked: list[dict[str, Any]]) -> AsyncIterator[str]:
    """A studio's own webhook that says `answer`, or fails while there is none; its URL."""

    async def say(request: web.Request) -> web.Response:
        asked.append(await request.json())
        return web.json_response(answer) if answer else web.Response(status=503)

    app = web.Application()
    app.router.add_post("/", say)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def test_a_webhook_says_how_many_and_its_last_word_counts_while_it_fails(
    runs: Runs, fleets: Fleets
) -> None:
    answer, asked = {"servers": 2}, list[dict[str, Any]]()

    async def scenario() -> None:
        async with fleets(capacity=2) as fleet, studio(answer, asked) as url:
            fleet.operator(RALLYPOINT_AUTOSCALE_PERIOD_S="0.5")
            policies = [
                {"name": "studio", "type": "Webhook", "webhook": {"url": url}},
                {"name": "rooms", "type": "RoomBuffer", "buffer": 0},
            ]
            await fleet.apply(**{**SPEC, "autoscaling": {**HASTY, "policies": policies}})
            await fleet.ready(2)
            assert "studio needs 2" in str(fleet.status("last_scale_reason"))
            assert asked[0] == {
                "set": fleet.name, "namespace": fleet.namespace, "policy": "studio",
                "replicas": 1, "rooms": 0, "claimed": 0, "players": 0, "unmet": 0,
            }  # fmt: skip
            answer.clear()
            answered = len(asked)
            await fleet.until(lambda: len(asked) > answered + 4, "questions")  # past the window
            assert fleet.set.spec.replicas == 2
            answer["servers"] = 1
            await fleet.ready(1)
            assert "WebhookSilent" in {one.reason for one in await fleet.events()}

    runs(scenario())


def test_what_no_schema_can_tell_is_refused_in_words(runs: Runs, fleets: Fleets) -> None:
    async def scenario() -> None:
        async with fleets() as fleet:
            secrets = Api(fleet.transport, SECRETS, manager="test")
            certificates = Certificates(
                secrets, "hook", namespace=fleet.namespace, hosts=("localhost",)
            )
            await certificates.ensure(datetime.datetime.now(datetime.UTC))
            api = Api(fleet.transport, webhooks.CONFIGURATIONS, manager="test")
            serving = webhooks.server(certificates).listening(host="127.0.0.1", port=0)
            async with serving as port:
                reached = {"url": f"https://localhost:{port}{webhooks.REVIEW}"}
                wanted = webhooks.configuration(
                    reached, ca=certificates.ca, namespace=fleet.namespace
                )
                await api.apply(fleet.namespace, wanted)
                try:
                    await refused(fleet)
                finally:
                    await api.delete(fleet.namespace)
            assert await owners(fleet) == {"person": ""}

    runs(scenario())


async def refused(fleet: Fleet) -> None:
    """Apply what is wrong until the API server asks us, then what is right."""
    broken = {"cron": "0 25 * * *", "timeZone": "Mars/Olympus", "duration": "1h", "floor": 2}
    policies = [{"name": "noon", "type": "Schedule", "schedule": broken}]
    wrong = {"autoscaling": {"max": 3, "policies": policies}}
    sets = Api(fleet.transport, resources.GAME_SERVER_SETS, manager="person")
    said = ""
    for _ in range(50):  # the API server learns of the webhook a moment later
        try:
            await fleet.apply(**wrong)
        except errors.Forbidden as error:
            said = str(error)
            break
        await sets.delete(fleet.name, namespace=fleet.namespace)
        await asyncio.sleep(0.2)
    assert "policies[noon].schedule" in said
    named = template()
    named["spec"]["container"] = "nobody"
    with pytest.raises(errors.Forbidden, match="'nobody', the pod has rooms"):
        await fleet.apply(template=named, replicas=1)
    await fleet.apply(replicas=1)
