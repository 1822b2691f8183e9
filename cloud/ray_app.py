"""The networks as a Ray Serve application: a decoder for each codec and a tail for each task.

Each is a deployment of its own with batching, autoscaling and a health check, so a cluster grows the part
that is short. A frame goes from the gRPC server to a decoder (entropy decoding and decoder graph), and its
feature from there straight to a tail: the server holds neither. `cloud.ray_runner` is the server's side. Each
machine of the cluster loads the packs from its own disk and refuses to serve when their digests are wrong.

For `serve deploy`: import_path `cloud.ray_app:build_app`, args: the fields of AppOptions.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application

from cloud.blame import answer_each
from cloud.runner import TaskOutput
from cloud.settings import CloudSettings
from cloud.tails import TaskTail
from splitcodec.bitstream import Header, parse
from splitcodec.codec import DecodedFeature, FeatureDecoder
from splitcodec.errors import PackMismatch, SplitcodecError
from splitcodec.packs import Pack, load_pack
from splitcodec.prompts import PromptStore
from splitcodec.tasks import ResultLimits

APP_NAME: Final = "splitcodec"
HEALTH_PERIOD_S: Final = 10.0
HEALTH_TIMEOUT_S: Final = 30.0
BATCHES_AHEAD: Final = 3
"""Batches a replica may hold: one at work, one to follow at once, one on its way."""


class AppOptions(BaseModel):
    """What the application serves and how far each deployment may grow; named as in CloudSettings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    packs: tuple[str, ...] = ("default",)
    engine: str = "auto"
    threads: int = Field(1, ge=1, le=256)
    max_batch: int = Field(4, ge=1, le=256)
    batch_window_s: float = Field(0.0, ge=0, le=1)
    score_threshold: float = Field(0.25, ge=0, le=1)
    max_detections: int = Field(100, ge=1, le=1000)
    top_classes: int = Field(5, ge=1, le=1000)
    ray_replicas: int = Field(1, ge=1, le=1000)
    ray_max_replicas: int = Field(4, ge=1, le=1000)
    ray_cpus: float = Field(1.0, ge=0, le=256)
    ray_gpus: float = Field(0.0, ge=0, le=16)

    @property
    def limits(self) -> ResultLimits:
        """What is kept of an answer."""
        return ResultLimits(
            score_threshold=self.score_threshold,
            max_detections=self.max_detections,
            top_classes=self.top_classes,
        )

    def placed(self, pack: Pack, place: str, task: str = "") -> PartOptions:
        """The options of one replica's part of `pack`, which lies at `place` on every machine."""
        digest = pack.prompt(task).digest if task else ""
        return PartOptions(
            place=place,
            codec_digest=pack.codec_digest,
            task=task,
            prompt_digest=digest,
            engine=self.engine,
            threads=self.threads,
            max_batch=self.max_batch,
            batch_window_s=self.batch_window_s,
            limits=self.limits,
        )


def options_of(settings: CloudSettings) -> AppOptions:
    """The options of a gRPC server's settings; packs must lie at the same places on every machine."""
    fields = {name: getattr(settings, name) for name in AppOptions.model_fields}
    fields["threads"] = settings.threads or max(1, int(settings.ray_cpus))
    fields["packs"] = tuple(
        place if place == "default" else str(Path(place).resolve()) for place in settings.packs
    )
    return AppOptions(**fields)


@dataclass(frozen=True)
class PartOptions:
    """Which codec or tail a replica holds, by full hex digests, and how it runs it."""

    place: str
    codec_digest: str
    task: str
    prompt_digest: str
    engine: str
    threads: int
    max_batch: int
    batch_window_s: float
    limits: ResultLimits

    def load(self) -> Pack:
        """The pack from this machine's disk; PackMismatch unless it is the one the application needs."""
        pack = load_pack(self.place)
        prompt = pack.prompt(self.task).digest if self.task else ""
        if (pack.codec_digest, prompt) != (self.codec_digest, self.prompt_digest):
            raise PackMismatch(
                f"pack {self.place} here has codec {pack.codec_digest[:16]} and prompt {prompt[:16]}, "
                f"the application needs {self.codec_digest[:16]} and {self.prompt_digest[:16]}; "
                "install the same pack on every machine of the cluster"
            )
        return pack


@dataclass(frozen=True)
class Route:
    """The deployments that the frames of one prompt go through."""

    decoder: str
    tail: str


@dataclass(frozen=True, eq=False)
class Feature:
    """A decoded frame on its way to a tail; feature: float32 [1, Ch, H/8, W/8]."""

    feature: NDArray[np.float32]
    header: Header
    stage_seconds: dict[str, float]


class Decoder:
    """A replica that turns bitstreams of one codec into features."""

    def __init__(self, options: PartOptions) -> None:
        pack = options.load()
        store = PromptStore(pack.prompts.values())
        self._decoder = FeatureDecoder(pack, options.engine, options.threads, store)
        self._prompts = {prompt.wire_digest: prompt for prompt in pack.prompts.values()}
        for prompt in self._prompts.values():
            self._decoder.warm(prompt)
        _set_batching(self.decode, options)

    @serve.batch
    async def decode(self, bitstreams: list[bytes]) -> list[Feature | SplitcodecError]:
        """The feature of each bitstream, or the error that is its own."""
        return await asyncio.to_thread(self._decode, bitstreams)

    def _decode(self, bitstreams: list[bytes]) -> list[Feature | SplitcodecError]:
        decoded = answer_each(self._decoder.decompress_batch, bitstreams, self._probe)
        return [_portable(one) for one in decoded]

    def _probe(self, bitstream: bytes) -> None:
        """Raises if the graphs do not run with that frame's prompt."""
        self._decoder.warm(self._prompts[parse(bitstream).header.prompt_digest])

    async def check_health(self) -> None:
        """Raises if the graphs no longer run; Ray then replaces this replica."""
        await asyncio.to_thread(self._decoder.warm, next(iter(self._prompts.values())))


def _portable(one: DecodedFeature | SplitcodecError) -> Feature | SplitcodecError:
    if isinstance(one, SplitcodecError):
        return one
    return Feature(one.feature, one.header, dict(one.stage_seconds))


class Tail:
    """A replica that answers decoded frames of one task."""

    def __init__(self, options: PartOptions) -> None:
        pack = options.load()
        self._tail = TaskTail(
            options.task,
            pack.task(options.task),
            pack.tail_bytes(options.task),
            options.engine,
            options.threads,
            options.limits,
        )
        self._channels = pack.manifest.codec.feature_channels
        self._tail.probe(self._channels)
        _set_batching(self.answer, options)

    @serve.batch
    async def answer(self, frames: list[Feature | SplitcodecError]) -> list[TaskOutput | SplitcodecError]:
        """The output of each frame, or the error that the decoder gave for it."""
        return await asyncio.to_thread(self._answer, frames)

    def _answer(self, frames: list[Feature | SplitcodecError]) -> list[TaskOutput | SplitcodecError]:
        sound = [frame for frame in frames if not isinstance(frame, SplitcodecError)]
        outputs = iter(answer_each(self._tail.answer, sound, lambda _: self._tail.probe(self._channels)))
        return [frame if isinstance(frame, SplitcodecError) else next(outputs) for frame in frames]

    async def check_health(self) -> None:
        """Raises if the graph no longer runs; Ray then replaces this replica."""
        await asyncio.to_thread(self._tail.probe, self._channels)


class Directory:
    """The part of the application that names the others: what it was built to serve."""

    def __init__(self, routes: dict[str, Route], *parts: Any) -> None:
        """parts: the other deployments, bound here so that they are deployed with this one."""
        self._routes = routes

    def routes(self) -> dict[str, Route]:
        """The way of each prompt's frames, by `route_key`."""
        return self._routes


def route_key(pack: Pack, task: str) -> str:
    """Names a prompt for ever: the full hex digests of its codec and of itself."""
    return f"{pack.codec_digest}/{pack.prompt(task).digest}"


def build_app(options: AppOptions) -> Application:
    """The application for packs that lie at `options.packs` here and on every machine of the cluster.

    The first pack wins where two hold the same prompt. Raises the PackError and PromptError families.
    """
    parts: list[Any] = []
    routes: dict[str, Route] = {}
    for number, place in enumerate(options.packs):
        pack = load_pack(place)
        fresh = [task for task in pack.tasks if route_key(pack, task) not in routes]
        if not fresh:
            continue
        decoder = f"decoder-{pack.codec_digest[:16]}-{number}"
        parts.append(_deployment(Decoder, decoder, options).bind(options.placed(pack, place)))
        for task in fresh:
            tail = f"tail-{task}-{pack.prompt(task).digest[:16]}"
            parts.append(_deployment(Tail, tail, options).bind(options.placed(pack, place, task)))
            routes[route_key(pack, task)] = Route(decoder, tail)
    directory = serve.deployment(Directory, name="directory", ray_actor_options={"num_cpus": 0})
    return directory.bind(routes, *parts)


def _deployment(part: type[Any], name: str, options: AppOptions) -> Any:
    return serve.deployment(
        part,
        name=name,
        max_ongoing_requests=BATCHES_AHEAD * options.max_batch,
        autoscaling_config={
            "min_replicas": options.ray_replicas,
            "initial_replicas": options.ray_replicas,
            "max_replicas": max(options.ray_replicas, options.ray_max_replicas),
            "target_ongoing_requests": options.max_batch,
        },
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        ray_actor_options={"num_cpus": options.ray_cpus, "num_gpus": options.ray_gpus},
    )


def _set_batching(method: Any, options: PartOptions) -> None:
    method.set_max_batch_size(options.max_batch)
    method.set_batch_wait_timeout_s(options.batch_window_s)
