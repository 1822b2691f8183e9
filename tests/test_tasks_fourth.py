"""A task with an answer of its own kind goes through both services, which know nothing of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_rig import edge_rig, picture
from numpy.typing import NDArray
from test_cloud_tasks import PATIENCE_S, real_cloud
from tiny_pack import three_tasks

from edge.__main__ import build_codec
from edge.settings import EdgeSettings
from splitcodec.client import AsyncCloudClient
from splitcodec.client.frame_json import parse_frame
from splitcodec.frame import read_picture
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.write import write_pack
from splitcodec.tasks import FrameSize, Named, ResultLimits, TaskAnswer, TensorKind, UnknownAnswer
from splitcodec.tasks.drawing import Drawing, LegendRow
from splitcodec.tasks.kinds import KINDS
from splitcodec.tasks.postprocess import POSTPROCESSES, Known
from splitcodec.wire.v1 import open_inference_pb2 as wire
from splitcodec.wire.v1.open_inference_pb2_grpc import GRPCInferenceServiceStub
from splitcodec.wire.v1.results_pb2 import TaskResult

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Headcount(TaskAnswer):
    """How many people are in the picture: all that a new task has to write."""

    people: int

    kind = "headcount"
    json_type = dict[str, int]
    tensor_kinds = (TensorKind("people", "INT32", (1,)),)

    @property
    def named(self) -> tuple[Named, ...]:
        return (Named(f"{self.people} people", 1.0),)

    @property
    def objects(self) -> int:
        return self.people

    def drawing(self) -> Drawing:
        return Drawing(legend=(LegendRow(f"{self.people} people", 0),))

    def tensors(self) -> tuple[NDArray[np.int32]]:
        return (np.array([self.people], "<i4"),)

    def as_json(self) -> dict[str, int]:
        return {"people": self.people}

    @classmethod
    def of_json(cls, value: dict[str, int]) -> Headcount:
        return cls(value["people"])

    def put(self, message: TaskResult) -> None:
        message.other.kind, message.other.data = self.kind, json.dumps(self.as_json()).encode()

    @classmethod
    def get(cls, message: TaskResult) -> Headcount:
        return cls.of_json(json.loads(message.other.data))


def count(
    outputs: Mapping[str, NDArray[np.float32]], size: FrameSize, labels: Sequence[str], limits: ResultLimits
) -> Headcount:
    return Headcount(3 + int(outputs["logits"].argmax()))


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pack:
    """Serves the task `count` beside three others."""
    monkeypatch.setitem(POSTPROCESSES, "headcount", Known(count, Headcount))
    monkeypatch.setitem(KINDS, Headcount.kind, Headcount)
    base = three_tasks()
    counting = replace(base.tasks["classify"], postprocess="headcount")
    write_pack(tmp_path / "pack", replace(base, tasks={**base.tasks, "count": counting}))
    return load_pack(tmp_path / "pack")


def edge_settings(tmp_path: Path) -> EdgeSettings:
    return EdgeSettings(pack=str(tmp_path / "pack"), threads=1)


@pytest.mark.slow
async def test_a_fourth_task_reaches_every_reader_in_its_own_words(pack: Pack, tmp_path: Path) -> None:
    codec = build_codec(edge_settings(tmp_path))
    async with (
        real_cloud(pack, tmp_path / "cloud") as (target, channel),
        edge_rig(codec, tmp_path / "edge", cloud_target=target) as rig,
        AsyncCloudClient(target) as cloud,
    ):
        reply = await rig.post(task="count")
        assert reply.status_code == 200, reply.text
        report: dict[str, Any] = reply.json()
        people = report["headcount"]["people"]
        assert people >= 3
        kinds = ("detections", "segmentation", "classification", "other")
        assert [report[name] for name in kinds] == [None] * 4
        assert (report["found"], report["objects"]) == ([{"label": f"{people} people", "share": 1.0}], people)
        read = parse_frame(reply.content)
        assert read.answer == Headcount(people)  # type: ignore[union-attr]
        (listed,) = [one async for one in cloud.list(task="count")]
        assert listed.answer == Headcount(people)
        drawn = read_picture((await rig.http.get(f"/v1/frames/{report['id']}/overlay.jpg")).content)
        assert np.abs(drawn.astype(int) - read_picture(picture()).astype(int)).max() > 100
        models = GRPCInferenceServiceStub(channel)
        told = await models.ModelMetadata(wire.ModelMetadataRequest(name="count"), timeout=PATIENCE_S)
        assert [(one.name, one.datatype) for one in told.outputs] == [("people", "INT32")]
        schema = (await rig.http.get("/openapi.json")).json()["components"]["schemas"]["FrameReport"]
        assert "headcount" in schema["properties"]


@pytest.mark.slow
async def test_an_answer_that_a_reader_does_not_know_is_kept_counted_and_shown(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = build_codec(edge_settings(tmp_path))
    async with (
        real_cloud(pack, tmp_path / "cloud") as (target, _),
        edge_rig(codec, tmp_path / "edge", cloud_target=target) as rig,
        AsyncCloudClient(target) as cloud,
    ):
        monkeypatch.delitem(KINDS, Headcount.kind)  # an edge and a client from before the task
        reply = await rig.post(task="count")
        assert reply.status_code == 200, reply.text
        report = reply.json()
        assert report["other"]["kind_name"] == "headcount"
        read = parse_frame(reply.content).answer  # type: ignore[union-attr]
        assert isinstance(read, UnknownAnswer)
        assert json.loads(read.data)["people"] >= 3
        (unknown,) = [one for one in rig.pipeline.metrics.unknown_results.collect()]
        assert unknown.samples[0].value == 1
        drawn = await rig.http.get(f"/v1/frames/{report['id']}/overlay.jpg")
        assert (
            np.abs(read_picture(drawn.content).astype(int) - read_picture(picture()).astype(int)).max() > 100
        )
        assert (await rig.post(task="classify")).status_code == 200
        listed = [one.answer async for one in cloud.list()]
        assert listed[0] == read
        assert len(listed) == 2


def test_the_services_name_no_kind_of_answer() -> None:
    concrete = re.compile(
        r"\b(Detections|SegmentationMask|ClassScores)\b|\.(detections|segmentation|classification)\b"
    )
    files = [*(ROOT / "edge").rglob("*.py"), *(ROOT / "cloud").rglob("*.py"), *(ROOT / "edge").rglob("*.js")]
    files.append(ROOT / "splitcodec" / "overlay.py")
    assert len(files) > 60
    assert [path.name for path in files if concrete.search(path.read_text())] == []
