"""Boxes, class maps and classes from one codec: over a real cloud, and from a photo through a real edge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from edge_rig import edge_rig, picture
from prometheus_client import CollectorRegistry
from tiny_pack import write_three_tasks

from cloud.packs import PackRunner
from cloud.server import CloudServer
from cloud.settings import CloudSettings
from edge.__main__ import build_codec
from edge.settings import EdgeSettings
from splitcodec.codec import FeatureDecoder, FeatureEncoder
from splitcodec.frame import read_canvas, read_picture
from splitcodec.packs import Pack
from splitcodec.runtime import open_session
from splitcodec.tasks import (
    ClassScores,
    Detections,
    ResultLimits,
    SegmentationMask,
    TaskAnswer,
    answer_of,
    postprocess_for,
)
from splitcodec.wire.options import client_options
from splitcodec.wire.v1.ingest_pb2 import Frame, InferRequest
from splitcodec.wire.v1.ingest_pb2_grpc import FeatureIngestStub
from splitcodec.wire.v1.results_pb2 import FrameKey, GetResultRequest, ListResultsRequest
from splitcodec.wire.v1.results_pb2_grpc import ResultsStub

PATIENCE_S = 60.0
LIMITS = ResultLimits(score_threshold=0.3, max_detections=5, top_classes=3)
KINDS = {"detect": Detections, "segment": SegmentationMask, "classify": ClassScores}
FIELDS = {"detect": "detections", "segment": "segmentation", "classify": "classification"}
HEIGHT, WIDTH = 120, 200


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_three_tasks(tmp_path_factory.mktemp("packs") / "tiny")


@asynccontextmanager
async def real_cloud(pack: Pack, data_dir: Path) -> AsyncIterator[tuple[str, grpc.aio.Channel]]:
    """Its target and a channel to it."""
    settings = CloudSettings(port=0, metrics_port=0, data_dir=data_dir)
    runner = PackRunner([pack], "ort-cpu", 1, LIMITS)
    async with CloudServer(settings, runner, CollectorRegistry()) as server:
        target = f"127.0.0.1:{server.grpc_port}"
        async with grpc.aio.insecure_channel(target, options=client_options()) as channel:
            yield target, channel


def encode(pack: Pack, task: str, rate: float = 1.0) -> bytes:
    canvas = read_canvas(picture(HEIGHT, WIDTH), None, pack.task(task).input)
    encoder = FeatureEncoder(pack, engine="ort-cpu")
    return encoder.compress(canvas.pixels, pack.prompt(task), rate, (HEIGHT, WIDTH)).data


def expected(pack: Pack, task: str, bitstream: bytes) -> TaskAnswer:
    """The same frame by the library alone, step by step."""
    section = pack.task(task)
    feature = FeatureDecoder(pack, engine="ort-cpu").decompress(bitstream).feature
    outputs = open_session(pack.tail_bytes(task), "ort-cpu", 1).run({"feature": feature})
    size = read_canvas(picture(HEIGHT, WIDTH), None, section.input).size
    return postprocess_for(section.postprocess)(outputs, size, section.labels, LIMITS)


def same(one: TaskAnswer, other: TaskAnswer) -> bool:
    """Equal but for the single precision of the message."""
    if isinstance(one, SegmentationMask) and isinstance(other, SegmentationMask):
        return bool((one.class_map() == other.class_map()).all())
    if isinstance(one, ClassScores) and isinstance(other, ClassScores):
        return [(c.label, round(c.score, 4)) for c in one.classes] == [
            (c.label, round(c.score, 4)) for c in other.classes
        ]
    assert isinstance(one, Detections)
    assert isinstance(other, Detections)
    return [(d.label, round(d.score, 4), round(d.box.x1, 2)) for d in one.detections] == [
        (d.label, round(d.score, 4), round(d.box.x1, 2)) for d in other.detections
    ]


async def test_each_task_is_answered_stored_and_listed_in_its_own_kind(pack: Pack, tmp_path: Path) -> None:
    async with real_cloud(pack, tmp_path) as (_, channel):
        for seq, (task, kind) in enumerate(KINDS.items(), start=1):
            key = FrameKey(device="box", camera="door", seq=seq)
            data = encode(pack, task)
            frame = Frame(key=key, capture_time_unix_nanos=seq, task=task, bitstream=data)
            reply = await FeatureIngestStub(channel).Infer(InferRequest(frame=frame), timeout=PATIENCE_S)
            answer = answer_of(reply.result)
            assert isinstance(answer, kind)
            assert same(answer, expected(pack, task, data)), task
            stored = await ResultsStub(channel).Get(GetResultRequest(key=key), timeout=PATIENCE_S)
            assert stored.result == reply.result
        listed = await ResultsStub(channel).List(ListResultsRequest(task="segment"), timeout=PATIENCE_S)
        assert [result.key.seq for result in listed.results] == [2]


async def test_a_class_map_has_the_size_of_the_posted_picture(pack: Pack, tmp_path: Path) -> None:
    async with real_cloud(pack, tmp_path) as (_, channel):
        frame = Frame(
            key=FrameKey(device="box", camera="door", seq=1),
            capture_time_unix_nanos=1,
            task="segment",
            bitstream=encode(pack, "segment"),
        )
        reply = await FeatureIngestStub(channel).Infer(InferRequest(frame=frame), timeout=PATIENCE_S)
    answer = answer_of(reply.result)
    assert isinstance(answer, SegmentationMask)
    assert answer.class_map().shape == (HEIGHT, WIDTH)
    shares = [one.share for one in answer.classes]
    assert sum(shares) == pytest.approx(1.0, abs=1e-6)
    assert shares == sorted(shares, reverse=True)
    counts = {one.label: (answer.class_map() == one.class_id).mean() for one in answer.classes}
    assert counts == pytest.approx({one.label: one.share for one in answer.classes}, abs=1e-6)


@pytest.mark.slow
async def test_a_photo_becomes_every_kind_of_answer_and_overlay(pack: Pack, tmp_path: Path) -> None:
    write_three_tasks(tmp_path / "pack")
    codec = build_codec(EdgeSettings(pack=str(tmp_path / "pack"), threads=1))
    async with (
        real_cloud(pack, tmp_path / "cloud") as (target, _),
        edge_rig(codec, tmp_path / "edge", cloud_target=target) as rig,
    ):
        plain = read_picture(picture(HEIGHT, WIDTH)).astype(np.int32)
        for task, field in FIELDS.items():
            reply = await rig.post(picture(HEIGHT, WIDTH), task=task, wait=True)
            assert reply.status_code == 200, reply.text
            report = reply.json()
            assert report["task"] == task
            assert [name for name in FIELDS.values() if report[name] is not None] == [field]
            drawn = await rig.http.get(f"/v1/frames/{report['id']}/overlay.jpg")
            assert drawn.status_code == 200
            overlay = read_picture(drawn.content).astype(np.int32)
            assert overlay.shape == plain.shape
            assert np.abs(overlay - plain).max() > 100
        assert [one["label"] for one in report["classification"]["classes"]] == [
            one.label for one in expected(pack, "classify", encode(pack, "classify", report["rate"])).classes
        ]
