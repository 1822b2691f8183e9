"""An edge whose cloud is away and comes back, and what has become of its frames."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
from edge_rig import EdgeRig, FakeCloud, edge_rig, fake_cloud
from prometheus_client.parser import text_string_to_metric_families
from waiting import until

from edge.codec import Codec

CONTEXT = grpc.aio.ServicerContext


@asynccontextmanager
async def away(codec: Codec, folder: Path, **options: object) -> AsyncIterator[tuple[EdgeRig, Return]]:
    """An edge whose cloud is away, and the function that brings it back."""
    async with fake_cloud() as gone:
        port = int(gone.target.rpartition(":")[2])
    async with AsyncExitStack() as stack:
        target = f"127.0.0.1:{port}"
        rig = await stack.enter_async_context(edge_rig(codec, folder, cloud_target=target, **options))
        clouds = await stack.enter_async_context(AsyncExitStack())
        yield rig, lambda cloud=None: clouds.enter_async_context(fake_cloud(port, cloud))


Return = Callable[..., Awaitable[FakeCloud]]
"""Takes the FakeCloud that comes back, if it is not to be a plain one."""


async def state(rig: EdgeRig, name: str) -> str:
    response = await rig.http.get(f"/v1/frames/{name}")
    return str(response.json()["state"]) if response.status_code == 200 else f"{response.status_code}"


async def settled(rig: EdgeRig, *names: str, want: str = "answered") -> None:
    for name in names:
        await until(lambda name=name: _is(rig, name, want))  # type: ignore[misc]


async def _is(rig: EdgeRig, name: str, want: str) -> bool:
    return await state(rig, name) == want


async def emptied(rig: EdgeRig) -> None:
    async def empty() -> bool:
        return bool((await rig.http.get("/readyz")).json()["spool"]["frames"] == 0)

    await until(empty)


async def spool(rig: EdgeRig, frames: int, camera: str = "default") -> list[str]:
    """Post frames that nobody waits for; their ids."""
    answers = [await rig.post(camera=camera, wait="false") for _ in range(frames)]
    assert [answer.status_code for answer in answers] == [202] * frames
    return [answer.json()["id"] for answer in answers]


async def metric(rig: EdgeRig, name: str, **labels: str) -> float:
    text = (await rig.http.get("/metrics")).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def seqs(names: list[str]) -> list[int]:
    return [int(name.rpartition("-")[2]) for name in names]
