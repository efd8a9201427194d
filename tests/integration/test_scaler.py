"""KEDA's contract over real gRPC: what a set needs, by what is claimed in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.integration.conftest import Runs
from tests.integration.fleet_stack import Stack, fleet_stack, until

from rallypoint.cli.brokers import Brokers
from rallypoint.internal.keda import externalscaler_pb2 as keda
from rallypoint.internal.keda import externalscaler_pb2_grpc
from rallypoint.kit import errors, rpc

Fresh = Callable[[str], str]


class Keda:
    """What KEDA asks, for one ScaledObject."""

    def __init__(self, channel: Any, set_name: str) -> None:
        self.stub: Any = externalscaler_pb2_grpc.ExternalScalerStub(channel)
        self.channel, self.set_name = channel, set_name

    def ref(self, **metadata: str) -> keda.ScaledObjectRef:
        values = {"set": self.set_name, "buffer": "50%", **metadata}
        return keda.ScaledObjectRef(name="arena", namespace="games", scaler_metadata=values)

    async def need(self, **metadata: str) -> int:
        ref = self.ref(**metadata)
        async with rpc.calling():
            reply = await self.stub.GetMetrics(keda.GetMetricsRequest(scaled_object_ref=ref))
        (value,) = reply.metric_values
        assert value.metric_value == value.metric_value_float
        return int(value.metric_value)

    async def active(self, **metadata: str) -> bool:
        async with rpc.calling():
            return bool((await self.stub.IsActive(self.ref(**metadata))).result)


@asynccontextmanager
async def scaled(brokers: Brokers, fresh: Fresh) -> AsyncIterator[tuple[Stack, Keda]]:
    async with (
        fleet_stack(brokers, fresh("set")) as stack,
        rpc.channel(stack.address, name="keda") as channel,
    ):
        yield stack, Keda(channel, stack.set_name)


def test_a_set_needs_what_is_claimed_and_its_buffer(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with scaled(brokers, fresh) as (stack, asked):
            assert (await asked.need(), await asked.active()) == (0, False)
            await stack.node(capacity=4)
            for _ in range(3):
                await stack.allocate(fresh("room"))
            assert await asked.need() == 2  # six slots, for three to be half
            assert await asked.need(buffer="0", rooms="1") == 3
            assert await asked.need(type="ServerBuffer", buffer="2") == 3
            assert await asked.need(type="PlayerBuffer", buffer="1", players="10") == 1
            assert await asked.active()

    runs(scenario())


def test_who_found_no_slot_wakes_a_set_that_was_scaled_to_none(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with scaled(brokers, fresh) as (stack, asked):
            told = asked.stub.StreamIsActive(asked.ref(buffer="0"))
            assert not (await told.read()).result
            room = fresh("room")
            for _ in range(2):
                with pytest.raises(errors.ResourceExhausted):
                    await stack.allocate(room)
            async with asyncio.timeout(20):
                assert (await told.read()).result
            assert await asked.need(buffer="0", rooms="1") == 1
            await stack.node()
            await stack.allocate(room)
            assert await asked.need(buffer="0", rooms="1") == 1
            told.cancel()

    runs(scenario())


def test_silent_servers_are_needed_on_top(runs: Runs, brokers: Brokers, fresh: Fresh) -> None:
    async def scenario() -> None:
        async with scaled(brokers, fresh) as (stack, asked):
            node = await stack.node()
            await stack.allocate(fresh("room"))
            assert await asked.need(buffer="0") == 1
            node.frozen = True

            async def replaced() -> bool:
                return await asked.need(type="ServerBuffer", buffer="1") == 2

            await until(replaced)

    runs(scenario())


@pytest.mark.parametrize(
    "metadata",
    [{"set": "No"}, {"buffer": "many"}, {"type": "Schedule"}, {"rooms": "0"}],
    ids=["set", "buffer", "type", "rooms"],
)
def test_metadata_without_sense_are_refused_in_words(
    runs: Runs, brokers: Brokers, fresh: Fresh, metadata: dict[str, str]
) -> None:
    async def scenario() -> None:
        async with scaled(brokers, fresh) as (_, asked):
            with pytest.raises(errors.InvalidArgument, match="SCALER_INVALID"):
                await asked.active(**metadata)

    runs(scenario())


def test_the_names_on_the_wire_are_those_that_keda_calls(
    runs: Runs, brokers: Brokers, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with scaled(brokers, fresh) as (_, asked):
            call = asked.channel.unary_unary("/externalscaler.ExternalScaler/GetMetricSpec")
            pairs = (("set", asked.set_name), ("buffer", "1"))
            entries = (
                b"\x0a%c%b\x12%c%b" % (len(k), k.encode(), len(v), v.encode()) for k, v in pairs
            )
            body = b"\x0a\x05arena\x12\x05games" + b"".join(
                b"\x1a%c%b" % (len(entry), entry) for entry in entries
            )
            spec = b"\x0a%c%b\x10\x01\x19\x00\x00\x00\x00\x00\x00\xf0\x3f"
            name = f"rallypoint-{asked.set_name}-roombuffer".encode()
            spec = spec % (len(name), name)
            assert await call(body) == b"\x0a%c%b" % (len(spec), spec)

    runs(scenario())
