"""For cameras that the edge reads itself: a video, a reader's orders and pictures, a watched camera."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from edge_rig import EdgeRig, edge_rig
from waiting import until

from edge.codec import Codec
from edge.sources import camera as camera_module
from edge.sources.fleet import checked_sources, reading_sources
from edge.sources.messages import Message, ReaderOrder, Said
from edge.sources.process import reader_process

av = pytest.importorskip("av", reason="reads and makes the videos of these tests: pip install '.[cameras]'")
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of H.264 at 10 frames a second: photos of scikit-image, one after another."""
    from skimage import data

    path = tmp_path_factory.mktemp("video") / "photos.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.options = {"g": "10", "bf": "0", "tune": "zerolatency"}
        for number in range(60):
            photo = (data.astronaut, data.chelsea, data.coffee)[number // 10 % 3]()
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(photo[:240:2, :320:2]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def order(kind: str, place: Path | str, **fields: object) -> ReaderOrder:
    values = {"fps": 50.0, "timeout_s": 20.0, "max_bytes": 2**24, "max_pixels": 10**7, **fields}
    return ReaderOrder(kind=kind, place=str(place), **values)


async def pictures(what: ReaderOrder, count: int) -> list[Message]:
    """The first pictures of a reader."""
    found: list[Message] = []
    async with reader_process(what) as reader:
        while len(found) < count:
            message = await reader.next(PATIENCE_S)
            if message.said is Said.PICTURE:
                found.append(message)
    return found


@dataclass
class Watched:
    """An edge that reads one camera."""

    rig: EdgeRig
    reader: camera_module.CameraReader

    def metric(self, name: str, **labels: str) -> float:
        value = self.rig.pipeline.metrics.registry.get_sample_value(name, {"camera": "door", **labels})
        return value or 0.0

    @property
    def restarts(self) -> float:
        return sum(
            self.metric("splitcodec_edge_source_restarts_total", reason=why) for why in ("failed", "stalled")
        )

    async def until(self, name: str, at_least: float, **labels: str) -> None:
        await until(lambda: self.metric(name, **labels) >= at_least, PATIENCE_S)


@contextlib.asynccontextmanager
async def watching(codec: Codec, folder: Path, source: str, **options: object) -> AsyncIterator[Watched]:
    settings = {"source": (f"door={source}",), "source_fps": 20, **options}
    async with (
        edge_rig(codec, folder, **settings) as rig,
        reading_sources(rig.pipeline, checked_sources(rig.pipeline.settings)) as readers,
    ):
        yield Watched(rig, readers[0])
