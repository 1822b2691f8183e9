"""Every camera of the settings, read from start to stop, its pictures brought through the pipeline."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
import logging
from collections.abc import AsyncIterator, Iterable

from edge.pipeline import EdgePipeline
from edge.report import FrameStatus
from edge.settings import EdgeSettings
from edge.sources.address import Source, parse_sources
from edge.sources.camera import CameraReader
from edge.sources.messages import Message, ReaderOrder
from splitcodec.errors import SettingsError, SplitcodecError

log = logging.getLogger(__name__)


def checked_sources(settings: EdgeSettings) -> tuple[Source, ...]:
    """The sources of the settings. SettingsError: a bad one, too many, or PyAV is missing for one."""
    sources = parse_sources(settings.source)
    if len(sources) > settings.max_cameras:
        raise SettingsError(
            f"{len(sources)} sources are more than max_cameras {settings.max_cameras}; raise it or give fewer"
        )
    if any(one.kind != "folder" for one in sources) and importlib.util.find_spec("av") is None:
        raise SettingsError("a source needs PyAV, which is not installed: pip install '.[cameras]'")
    return sources


@contextlib.asynccontextmanager
async def reading_sources(
    pipeline: EdgePipeline, sources: Iterable[Source]
) -> AsyncIterator[list[CameraReader]]:
    """The cameras are read while the block runs; their processes are gone when it has ended."""
    readers = [
        CameraReader(one, _order(one, pipeline.settings), _Taker(pipeline).take, pipeline.metrics)
        for one in sources
    ]
    tasks = [asyncio.create_task(reader.run()) for reader in readers]
    try:
        yield readers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _order(source: Source, settings: EdgeSettings) -> ReaderOrder:
    return ReaderOrder(
        kind=source.kind,
        place=source.place,
        fps=settings.source_fps,
        min_change=settings.camera_min_change.get(source.camera, settings.source_min_change),
        timeout_s=settings.source_timeout_s,
        max_bytes=settings.max_picture_bytes,
        max_pixels=settings.max_picture_pixels,
    )


class _Taker:
    """Logs the first of a run of equal failures."""

    def __init__(self, pipeline: EdgePipeline) -> None:
        self._pipeline = pipeline
        self._failing: type[SplitcodecError] | None = None

    async def take(self, camera: str, picture: Message) -> None:
        """See camera.Take."""
        pipeline = self._pipeline
        try:
            order = dataclasses.replace(
                pipeline.order(camera, None, None), capture_time_nanos=picture.capture_time_nanos
            )
            with pipeline.count_outcome(order) as counted:
                outcome = await pipeline.process(order, picture.body, None)
                if isinstance(outcome, FrameStatus):
                    counted.outcome = "spooled"
            self._failing = None
        except SplitcodecError as error:
            if self._failing is not type(error):
                log.warning("camera %s: %s: %s", camera, type(error).__name__, error)
            self._failing = type(error)
