"""Several clusters at once: one transport each, one failing never hides what the others say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from rallypoint.kit.settings import SettingsError
from rallypoint.kube import errors
from rallypoint.kube.config import ClusterConfig
from rallypoint.kube.transport import DEFAULT_PATIENCE, Patience, Transport

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Answers(Generic[R]):
    """What each cluster said, or how it failed."""

    results: dict[str, R]
    failures: dict[str, errors.KubeError]


class Clusters:
    """Transports by the name of their cluster. Use it as a context, or close it."""

    def __init__(
        self, configs: Iterable[ClusterConfig], *, patience: Patience = DEFAULT_PATIENCE
    ) -> None:
        self._transports: dict[str, Transport] = {}
        for config in configs:
            if config.name in self._transports:
                raise SettingsError(f"two clusters are named {config.name}: errors could not tell")
            self._transports[config.name] = Transport(config, patience=patience)

    def __getitem__(self, name: str) -> Transport:
        return self._transports[name]

    def __iter__(self) -> Iterator[Transport]:
        return iter(self._transports.values())

    async def ask(self, call: Callable[[Transport], Awaitable[R]]) -> Answers[R]:
        """Make the same call to all at once."""
        answers: Answers[R] = Answers({}, {})

        async def one(transport: Transport) -> None:
            try:
                answers.results[transport.cluster] = await call(transport)
            except errors.KubeError as error:
                answers.failures[transport.cluster] = error

        async with asyncio.TaskGroup() as group:
            for transport in self:
                group.create_task(one(transport), name=f"ask {transport.cluster}")
        return answers

    async def close(self) -> None:
        """Close all connections."""
        for transport in self:
            await transport.close()

    async def __aenter__(self) -> Clusters:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
