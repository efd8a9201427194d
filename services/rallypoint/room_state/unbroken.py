"""Work that goes on to its end when who asked for it has gone: half of it must never be."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rallypoint.room_state.node import Spawn

T = TypeVar("T")


async def to_the_end(spawn: Spawn, work: Coroutine[Any, Any, T], *, name: str) -> T:
    """What `work` returns or raises. A caller that is cancelled only stops waiting for it."""
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    async def run() -> None:
        try:
            result = await work
        except asyncio.CancelledError:
            done.cancel()
            raise
        except Exception as error:
            done.set_exception(error)
            done.exception()  # the caller may have gone
        else:
            done.set_result(result)

    spawn(run(), name=name)
    return await asyncio.shield(done)
