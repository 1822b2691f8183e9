"""Frames one at a time through both services: seconds per stage, what the services add, and memory.

Stages are what the services report of themselves; the wall time is the client's, from the first byte of the
request to the last of the answer. Overhead is the wall time minus every computing stage of both sides: HTTP,
gRPC, queues, the commit to the database, Python between the stages.
"""

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from splitcodec.bench.photos import PostedPhoto
from splitcodec.errors import CloudRefused
from splitcodec.launch import Services

GRAPHS = ("edge.head", "edge.hyper", "edge.context", "cloud.hyper", "cloud.decoder", "cloud.tail")
WAITING = ("cloud.queue", "cloud.commit")  # reported, but no computing: part of the overhead
REQUEST_TIMEOUT_S = 60.0
MEMORY_SAMPLES = 50


@dataclass(frozen=True)
class FrameTimes:
    """Seconds of one frame: stages by `edge.name` or `cloud.name`, and the client's wall time."""

    stages: Mapping[str, float]
    wall: float
    num_bytes: int

    @property
    def graphs(self) -> float:
        """Seconds in the networks of both sides."""
        return sum(self.stages.get(name, 0.0) for name in GRAPHS)

    @property
    def edge(self) -> float:
        """Seconds of computing on the edge: decode, networks, entropy coding."""
        return sum(value for name, value in self.stages.items() if name.startswith("edge."))

    @property
    def overhead(self) -> float:
        """Seconds of the wall time that no computing stage accounts for."""
        return self.wall - sum(value for name, value in self.stages.items() if name not in WAITING)


@dataclass(frozen=True)
class Spread:
    """Median and 95th percentile in milliseconds."""

    median_ms: float
    p95_ms: float


@dataclass(frozen=True)
class MemorySample:
    """Resident bytes of both services after so many frames; None where the system does not tell."""

    frames: int
    edge_bytes: int | None
    cloud_bytes: int | None


@dataclass(frozen=True)
class Latency:
    """Summary of a run. Shares are of medians, in [0, 1].

    stages: by `edge.name` and `cloud.name`; edge: all edge stages together; graphs: all networks together;
    overhead_share: overhead against graphs; entropy_share: entropy coding against the whole edge.
    """

    frames: int
    stages: Mapping[str, Spread]
    edge: Spread
    graphs: Spread
    overhead: Spread
    wall: Spread
    overhead_share: float
    entropy_share: float
    bytes_per_frame: float


class EdgeConnection:
    """One kept-alive HTTP connection to an edge on this machine."""

    def __init__(self, port: int, rate: float | None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_TIMEOUT_S)
        self._path = "/v1/frames?camera=bench" + ("" if rate is None else f"&rate={rate:g}")

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def post(self, photo: PostedPhoto) -> FrameTimes:
        """Send a picture and wait for its result; CloudRefused if the services said no."""
        started = time.perf_counter()
        self._connection.request("POST", self._path, photo.data, {"Content-Type": photo.content_type})
        response = self._connection.getresponse()
        body = response.read()
        wall = time.perf_counter() - started
        if response.status != http.client.OK:
            raise CloudRefused(f"{photo.name}: {response.status} {body[:300].decode(errors='replace')}")
        report = json.loads(body)
        stages = {
            f"{side}.{name}": float(seconds)
            for side in ("edge", "cloud")
            for name, seconds in report["timings"][side].items()
        }
        return FrameTimes(stages, wall, int(report["num_bytes"]))


def post_frames(
    services: Services,
    photos: Sequence[PostedPhoto],
    frames: int,
    warmup: int,
    rate: float | None,
    advance: Callable[[], None],
) -> tuple[list[FrameTimes], list[MemorySample]]:
    """Post warmup frames that do not count, then frames that do, round and round through the photos."""
    times: list[FrameTimes] = []
    memory: list[MemorySample] = []
    every = max(1, frames // MEMORY_SAMPLES)
    with contextlib.closing(EdgeConnection(services.edge.ports["http_port"], rate)) as edge:
        for number in range(warmup):
            edge.post(photos[number % len(photos)])
            advance()
        for number in range(frames):
            times.append(edge.post(photos[number % len(photos)]))
            if (number + 1) % every == 0 or number + 1 == frames:
                memory.append(sample_memory(services, number + 1))
            advance()
    return times, memory


def sample_memory(services: Services, frames: int) -> MemorySample:
    """Resident memory of both services now."""
    return MemorySample(frames, services.edge.resident_bytes(), services.cloud.resident_bytes())


def summarize(times: Sequence[FrameTimes]) -> Latency:
    """Medians and percentiles over the frames; a stage that a frame did not have counts as zero."""
    names = sorted({name for frame in times for name in frame.stages})
    graphs = spread([frame.graphs for frame in times])
    edge = spread([frame.edge for frame in times])
    overhead = spread([frame.overhead for frame in times])
    stages = {name: spread([frame.stages.get(name, 0.0) for frame in times]) for name in names}
    entropy = stages["edge.entropy"].median_ms if "edge.entropy" in stages else 0.0
    return Latency(
        frames=len(times),
        stages=stages,
        edge=edge,
        graphs=graphs,
        overhead=overhead,
        wall=spread([frame.wall for frame in times]),
        overhead_share=overhead.median_ms / graphs.median_ms if graphs.median_ms else 0.0,
        entropy_share=entropy / edge.median_ms if edge.median_ms else 0.0,
        bytes_per_frame=float(np.mean([frame.num_bytes for frame in times])),
    )


def spread(seconds: Sequence[float]) -> Spread:
    """Median and 95th percentile of seconds, in milliseconds rounded to a microsecond."""
    median, p95 = np.quantile(np.asarray(seconds), [0.5, 0.95]) * 1000
    return Spread(round(float(median), 3), round(float(p95), 3))


def growth_per_1000(frames: Sequence[int], sizes: Sequence[int | None]) -> float | None:
    """Bytes gained per 1,000 frames over the last half of the samples, by least squares; None if unknown."""
    half = [(n, size) for n, size in zip(frames, sizes, strict=True) if size is not None][len(frames) // 2 :]
    if len(half) < 2:
        return None
    counts, bytes_held = (np.array(column, dtype=np.float64) for column in zip(*half, strict=True))
    counts -= counts.mean()
    return float(1000 * (counts @ bytes_held) / (counts @ counts))
