"""A whole installation for one run: cloud, link, edge, cameras, subscribers, and the verdict at the end."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import grpc
from chaos.ledger import FrameName, Ledger, Verdict, judge
from chaos.process import ROOT, ServiceProcess, metric, wait_until
from chaos.traffic import Camera, Subscriber
from fault_proxy import FaultProxy, fault_proxy

SETTLE_S = 120.0


@dataclass(frozen=True)
class Plan:
    """How large a run is. frames: to be accepted in each phase; kills: of each service killed; cuts: of
    a link that is cut time after time."""

    seed: int = 1
    frames: int = 60
    kills: int = 2
    cameras: int = 3
    pause_s: float = 0.01
    cuts: int = 20


@dataclass(frozen=True)
class Options:
    """What a scenario needs of the installation beyond the plain one."""

    edge_flags: tuple[str, ...] = ()
    cloud_flags: tuple[str, ...] = ()
    edge_env: dict[str, str] = field(default_factory=dict)
    cloud_env: dict[str, str] = field(default_factory=dict)
    credentials: grpc.ChannelCredentials | None = None
    state_dir: Path | None = None
    data_dir: Path | None = None
    slow_s: float = 0.05


class World:
    """Everything of one run. Camera 0 waits for results, as clients do by default, the others only for 202.

    `subscriber` is judged; `slow` reads at a crawl and must see the same.
    """

    def __init__(self, folder: Path, pack: Path, plan: Plan, options: Options, proxy: FaultProxy) -> None:
        self.plan = plan
        self.folder = folder
        self.dice = random.Random(plan.seed)
        self.proxy = proxy
        self.ledger = Ledger()
        self.state_dir = options.state_dir or folder / "edge"
        self.data_dir = options.data_dir or folder / "cloud"
        cloud_flags = [f"--packs={pack}", f"--data-dir={self.data_dir}", "--metrics-port=0", "--threads=1"]
        self.cloud = ServiceProcess("cloud", [*cloud_flags, *options.cloud_flags], folder, options.cloud_env)
        proxy.target = self.cloud.address
        edge_flags = [f"--pack={pack}", f"--state-dir={self.state_dir}", "--threads=1", "--device=box"]
        edge_flags += [f"--cloud-target={proxy.address}", *options.edge_flags]
        self.edge = ServiceProcess("edge", edge_flags, folder, options.edge_env)
        self.subscriber = Subscriber(self.cloud.address, options.credentials)
        self.slow = Subscriber(self.cloud.address, options.credentials, options.slow_s, plan.seed)
        self.cameras = [
            Camera(f"cam{number}", self.edge.port, self.ledger, plan.pause_s, "&wait=0" if number else "")
            for number in range(plan.cameras)
        ]
        self.given_up = 0
        self.named: Callable[[], set[FrameName]] = set  # frames that the services say they lost

    def start(self, *, cloud: bool = True) -> None:
        """Both services, then frames and subscribers."""
        if cloud:
            self.cloud.start()
        self.edge.start()
        for thread in (self.subscriber, self.slow, *self.cameras):
            thread.start()

    def accept(self, frames: int, timeout_s: float = SETTLE_S) -> None:
        """Until so many more frames were accepted."""
        want = len(self.ledger.accepted) + frames
        if not self.ledger.wait_for(want, timeout_s):
            raise TimeoutError(
                f"{len(self.ledger.accepted)} of {want} frames accepted in {timeout_s} s, refused "
                f"{dict(self.ledger.refused)}; edge: {self.edge.log_end()}"
            )

    def some(self) -> int:
        """A random number of frames, so that faults strike at random points."""
        return self.dice.randint(1, max(2, 2 * self.plan.frames // max(1, self.plan.kills)))

    def settle(self) -> Verdict:
        """No new frames; wait until every accepted one was seen; judge both subscribers, give the worse."""
        for camera in self.cameras:
            camera.stop()
        wanted = set(self.ledger.accepted)
        self.slow._pause_s = 0.0
        for reader in (self.subscriber, self.slow):
            with contextlib.suppress(TimeoutError):  # the verdict counts what did not come
                wait_until(partial(self._complete, reader, wanted), SETTLE_S, "subscribers")
        accepted, without_yes = self.ledger.accepted, self.ledger.without_yes
        verdicts = [
            judge(accepted, list(reader.seen), self._given_up(reader, wanted), without_yes)
            for reader in (self.subscriber, self.slow)
        ]
        return max(verdicts, key=lambda verdict: (not verdict.sound, verdict.lost))

    def _complete(self, reader: Subscriber, wanted: set[FrameName]) -> bool:
        return len(wanted - set(reader.seen)) <= self._given_up(reader, wanted)

    def _given_up(self, reader: Subscriber, wanted: set[FrameName]) -> int:
        """Frames that this reader need not have seen: as many as the edge counted, or those named."""
        return self.given_up + len((wanted - set(reader.seen)) & self.named())

    def quiet(self) -> None:
        """No frames until `resume`, and none under way to the edge."""
        for camera in self.cameras:
            camera.pause()
        for camera in self.cameras:
            camera.wait_until_idle()

    def resume(self) -> None:
        """Frames again."""
        for camera in self.cameras:
            camera.resume()

    def edge_metric(self, name: str) -> float:
        """Sum of a metric of the edge."""
        return metric(self.edge.address, f"splitcodec_edge_{name}")

    def close(self) -> None:
        """End everything that still runs."""
        for camera in self.cameras:
            if camera.is_alive():
                camera.stop()
        for reader in (self.subscriber, self.slow):
            if reader.is_alive():
                reader.stop()
        for service in (self.edge, self.cloud):
            service.stop()


@contextmanager
def world(folder: Path, pack: Path, plan: Plan, options: Options | None = None) -> Iterator[World]:
    """An installation that is not started yet; everything ends with the block."""
    with fault_proxy("127.0.0.1:1", plan.seed) as proxy:
        made = World(folder, pack, plan, options or Options(), proxy)
        try:
            yield made
        finally:
            made.close()


def clock_env(folder: Path, name: str) -> tuple[dict[str, str], Callable[[float], None]]:
    """Environment of a service whose wall clock can be set off, and the function that does it."""
    path = folder / f"{name}.clock"
    path.write_text("0")
    here = ROOT / "tests" / "chaos" / "clock"
    return {"CHAOS_CLOCK": str(path), "PYTHONPATH": str(here)}, lambda seconds: _replace(path, seconds)


def _replace(path: Path, seconds: float) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(str(seconds))
    draft.replace(path)
