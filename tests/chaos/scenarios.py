"""What goes wrong, one function per fault. Each gets a world that is not started, returns when all is over.

Always: frames flow, the fault strikes at points that the seed chooses, it ends, frames flow again. The
verdict is the caller's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from chaos.ledger import FrameName
from chaos.process import wait_until
from chaos.world import World

Scenario = Callable[[World], None]
FAULT_S = 1.0


def edge_killed(world: World) -> None:
    """SIGKILL of the edge, at random points."""
    world.start()
    for _ in range(world.plan.kills):
        world.accept(world.some())
        world.edge.kill()
        world.edge.start()
    world.accept(world.plan.frames)


def posts_repeated(world: World) -> None:
    """SIGKILL of the edge under clients that post again, under their key, what was not answered."""
    for camera in world.cameras:
        camera.repeats = True
    edge_killed(world)


def cloud_killed(world: World) -> None:
    """SIGKILL of the cloud, at random points."""
    world.start()
    for _ in range(world.plan.kills):
        world.accept(world.some())
        world.cloud.kill()
        world.accept(world.some())
        world.cloud.start()
    world.accept(world.plan.frames)


def services_restarted(world: World) -> None:
    """SIGTERM, as at an update: both in turn, at random points; each must end by itself with status 0."""
    world.start()
    for _ in range(world.plan.kills):
        for service in world.dice.sample([world.edge, world.cloud], 2):
            world.accept(world.some())
            if (status := service.stop()) != 0:
                raise TimeoutError(f"{service.module} ended with {status}: {service.log_end()}")
            service.start()
    world.accept(world.plan.frames)


def both_killed(world: World) -> None:
    """SIGKILL of both, in random order, the edge first to come back."""
    world.start()
    for _ in range(world.plan.kills):
        world.accept(world.some())
        for service in world.dice.sample([world.edge, world.cloud], 2):
            service.kill()
        world.edge.start()
        world.accept(world.some())
        world.cloud.start()
    world.accept(world.plan.frames)


def cloud_away(world: World) -> None:
    """The edge boots without a cloud, takes frames for long, is killed on the way, and drains in the end."""
    world.start(cloud=False)
    world.accept(world.plan.frames * 4)
    world.edge.kill()
    world.edge.start()
    world.accept(world.plan.frames)
    world.cloud.start()
    world.accept(world.plan.frames)


def link_stalls(world: World) -> None:
    """The link falls silent, connections stay open."""
    world.start()
    for _ in range(world.plan.kills):
        world.accept(world.some())
        world.proxy.set(stalled=True)
        world.accept(world.some())
        world.proxy.heal()
    world.accept(world.plan.frames)


def link_cut(world: World) -> None:
    """Connections are reset and refused for a while."""
    world.start()
    for _ in range(world.plan.kills * 2):
        world.accept(world.some() // 2 + 1)
        world.proxy.set(refuse=True)
        world.proxy.cut()
        world.accept(world.some() // 2 + 1)
        world.proxy.heal()
    world.accept(world.plan.frames)


def link_cut_often(world: World) -> None:
    """Every connection is reset after a random number of bytes, whatever they are, hundreds of times."""
    world.start()
    for _ in range(world.plan.cuts):
        world.proxy.wait_until_taken(world.proxy.taken + world.dice.randint(1, 20_000), timeout_s=60)
        world.proxy.cut()
    world.accept(world.plan.frames)


def link_corrupts(world: World) -> None:
    """Bits flip on the way up and down."""
    world.start()
    for _ in range(world.plan.kills):
        world.accept(world.some())
        world.proxy.set(corrupt_every=20_000)
        world.accept(world.plan.frames)
        world.proxy.heal()
        world.proxy.cut()  # a flipped length can leave HTTP/2 waiting for bytes that never come
    world.accept(world.plan.frames)


def link_loses(world: World) -> None:
    """Messages vanish whole on the way up and down, and what comes behind them arrives."""
    world.start()
    for _ in range(world.plan.kills):
        world.accept(world.some())
        world.proxy.set(lose_every=20)
        world.accept(world.plan.frames)
        world.proxy.heal()
    world.accept(world.plan.frames)


def link_reorders(world: World) -> None:
    """A connection breaks for the edge; what it had sent reaches the cloud after newer connections did."""
    world.start()
    for _ in range(world.plan.kills):
        world.accept(world.some())
        world.proxy.set(delay_s=0.1)
        world.accept(world.some())
        world.proxy.orphan()
        world.accept(world.some())
        world.proxy.heal()
        world.accept(world.some())
        world.proxy.deliver_orphans()
    world.accept(world.plan.frames)


def link_narrow(world: World) -> None:
    """A thin, late link, shaped down to less than what is posted."""
    world.start()
    world.proxy.set(up_bps=200_000, down_bps=200_000, delay_s=0.05)
    world.accept(world.plan.frames * 2)
    world.proxy.heal()
    world.accept(world.plan.frames)


def readers_leave(world: World) -> None:
    """Subscribers end their call in the middle, time after time, while one reads at a crawl."""
    world.start()
    for _ in range(world.plan.kills * 4):
        world.accept(world.some() // 2 + 1)
        world.subscriber.leave()
        world.slow.leave()
    world.accept(world.plan.frames)


def fill_disk(folder: Path) -> Path:
    """A file that takes every byte left."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        for size in (65536, 4096):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    return ballast


def disk_full(world: World) -> None:
    """The edge's disk fills up under frames it cannot send; it refuses, and goes on when there is room."""
    world.start(cloud=False)
    world.accept(world.plan.frames)
    ballast = fill_disk(world.state_dir)
    refused = sum(world.ledger.refused.values())
    wait_until(
        lambda: sum(world.ledger.refused.values()) > refused + 10, 60, "the edge to refuse on a full disk"
    )
    ballast.unlink()
    world.accept(world.plan.frames)
    world.cloud.start()
    world.accept(world.plan.frames)


def cloud_disk_full(world: World) -> None:
    """The cloud's disk fills up; it acknowledges nothing that it cannot keep."""
    world.start()
    world.accept(world.plan.frames)
    ballast = fill_disk(world.data_dir)
    world.accept(world.plan.frames * 4)
    ballast.unlink()
    world.accept(world.plan.frames)


def clock_jumps(
    world: World, edge_clock: Callable[[float], None], cloud_clock: Callable[[float], None]
) -> None:
    """Both wall clocks jump forwards and backwards, over restarts too."""
    world.start()
    for offset in (86_400.0, -7_200.0, 40 * 86_400.0, -30 * 86_400.0, 0.0):
        world.accept(world.some())
        edge_clock(offset)
        world.accept(world.some())
        if offset < 0:
            world.edge.kill()
            world.edge.start()
        cloud_clock(-offset / 100)
    world.accept(world.plan.frames)


def older_pack(world: World, flags_before: list[str], flags_after: list[str]) -> None:
    """The cloud comes back with an older pack that lacks the edge's prompt, and later with the right one."""
    world.start()
    world.accept(world.plan.frames)
    world.cloud.kill()
    world.cloud.flags = flags_before
    world.cloud.start()
    world.accept(world.plan.frames)
    wait_until(lambda: world.edge.log_has("the cloud refused a frame"), 60, "the older pack to be noticed")
    world.cloud.kill()
    world.cloud.flags = flags_after
    world.cloud.start()
    world.accept(world.plan.frames)


def certificate_expires(world: World, expire: Callable[[], None], renew: Callable[[], None]) -> None:
    """The cloud's certificate runs out: frames wait on the edge; a new one is put in place, no restart."""
    world.start()
    world.accept(world.plan.frames)
    expire()
    ends = world.edge_metric("stream_ends_total")
    world.proxy.cut()
    world.accept(world.plan.frames)
    wait_until(lambda: world.edge_metric("stream_ends_total") > ends + 2, 60, "the certificate to be refused")
    renew()
    world.accept(world.plan.frames)


def spool_damaged(world: World, damage: Callable[[Path], int]) -> None:
    """Rows of the spool rot on the disk while the edge is off: it comes up, reports them, sends the rest."""
    world.start(cloud=False)
    world.accept(world.plan.frames * 2)
    world.quiet()
    world.edge.kill()
    damaged = damage(world.state_dir)
    world.edge.start()
    world.cloud.start()
    world.resume()
    world.accept(world.plan.frames)
    wait_until(
        lambda: world.edge_metric("spool_quarantined_total") >= damaged, 60, "the damage to be reported"
    )
    wait_until(lambda: world.edge_metric("spool_frames") < world.plan.frames, 60, "the spool to drain")
    world.given_up = round(world.edge_metric("spool_quarantined_total"))


def stores_rot(world: World, rot: Callable[[], None], named: Callable[[], set[FrameName]]) -> None:
    """Time after time both services are killed and bytes of both databases flip before they come back."""
    world.named = named
    world.start()
    for _ in range(world.plan.kills):
        world.accept(world.some())
        world.cloud.kill()
        world.accept(world.plan.frames)
        world.edge.kill()
        rot()
        for service in world.dice.sample([world.edge, world.cloud], 2):
            service.start()
        world.accept(world.some())
    world.accept(world.plan.frames)
    wait_until(lambda: world.edge_metric("spool_frames") < world.plan.frames, 120, "the spool to drain")


def still_cameras(world: World) -> None:
    """Frames that hold cells, each of which needs the one before: kills of both, resets, an outage."""
    held = 0.0
    world.start()
    for _ in range(world.plan.kills):
        for service in world.dice.sample([world.edge, world.cloud], 2):
            world.accept(world.some())
            held += world.edge_metric("held_cells_ratio_count")
            service.kill()
            if service is world.cloud:
                world.accept(world.some())
            service.start()
        world.accept(world.some())
        world.proxy.cut()
    world.accept(world.plan.frames)
    if not held:
        raise TimeoutError("no frame held cells: the run shows nothing")


PLAIN: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        edge_killed, posts_repeated, cloud_killed, both_killed, services_restarted, cloud_away, link_stalls,
        link_cut, link_cut_often, link_corrupts, link_loses, link_reorders, link_narrow, readers_leave,
    )
}  # fmt: skip
"""Scenarios that need nothing but the world."""
