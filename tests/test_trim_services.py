"""Trimmed canvases from the posted picture to the answer: edge, cloud, batches, evaluation."""

from __future__ import annotations

import asyncio
import json
import struct
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest
from cloud_helpers import answered
from edge_rig import edge_rig, picture
from evaluation_rig import coco_files, write_detector, write_tar
from prometheus_client import CollectorRegistry
from tiny_pack import LABELS, write_trimmed

from cloud.packs import PackRunner
from cloud.runner import TaskOutput
from cloud.server import CloudServer
from cloud.settings import CloudSettings
from edge.__main__ import build_codec
from edge.settings import EdgeSettings
from splitcodec.bitstream import parse
from splitcodec.codec import FeatureEncoder
from splitcodec.errors import SplitcodecError
from splitcodec.evaluation.anchors import PillowAnchor
from splitcodec.evaluation.codec_system import codec_systems
from splitcodec.evaluation.dataset import Dataset, open_dataset
from splitcodec.evaluation.detection import DetectionScorer
from splitcodec.evaluation.measure import measure
from splitcodec.evaluation.systems import AnchorSystem, System, SystemOutput, open_teacher
from splitcodec.frame import Canvas, read_canvas
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.prompt_pack import load_prompt_pack, write_prompt_pack
from splitcodec.packs.schema import MANIFEST_FILE
from splitcodec.placement import FrameSize
from splitcodec.sample_photos import packaged_photos
from splitcodec.tasks import Detection, Detections, ResultLimits, SegmentationMask, answer_of, decode_yolox
from splitcodec.tasks.yolox import boxes_to_source
from splitcodec.wire.options import client_options
from splitcodec.wire.v1 import open_inference_pb2 as wire
from splitcodec.wire.v1.ingest_pb2 import Frame, InferRequest
from splitcodec.wire.v1.ingest_pb2_grpc import FeatureIngestStub
from splitcodec.wire.v1.open_inference_pb2_grpc import GRPCInferenceServiceStub
from splitcodec.wire.v1.results_pb2 import FrameKey

PATIENCE_S = 60.0
SIDE = 160
EVERY_CELL = ResultLimits(score_threshold=0.2, iou_threshold=1.0, max_detections=1000)
SHAPES = {
    (480, 640): (128, 160),
    (360, 640): (96, 160),
    (640, 360): (160, 96),
    (300, 300): (160, 160),
    (1, 1000): (32, 160),
    (1000, 1): (160, 32),
    (1, 1): (160, 160),
}
"""Source height and width, and those of the canvas in a box of SIDE."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packs")


@pytest.fixture(scope="module")
def trimmed(folder: Path) -> Pack:
    return write_trimmed(folder / "trimmed", SIDE, SIDE)


@pytest.fixture(scope="module")
def runner(trimmed: Pack) -> PackRunner:
    return PackRunner([trimmed], "ort-cpu", 1, EVERY_CELL)


def coded(pack: Pack, encoder: FeatureEncoder, data: bytes, task: str = "detect", rate: float = 1.0) -> bytes:
    canvas = read_canvas(data, None, pack.task(task).input)
    size = (canvas.source_height, canvas.source_width)
    return encoder.compress(canvas.pixels, pack.prompt(task), rate, size).data


def posted(shape: tuple[int, int]) -> bytes:
    return picture(*shape, kind="PNG")


def corners(output: TaskOutput | SplitcodecError) -> np.ndarray:
    """[n, 4] boxes in source pixels."""
    assert isinstance(output, TaskOutput)
    assert isinstance(output.answer, Detections)
    found: tuple[Detection, ...] = output.answer.detections
    return np.array([(one.box.x1, one.box.y1, one.box.x2, one.box.y2) for one in found]).reshape(-1, 4)


def labels(output: TaskOutput) -> list[str]:
    assert isinstance(output.answer, Detections)
    return [one.label for one in output.answer.detections]


def cells(shape: tuple[int, int]) -> int:
    """Cells of a canvas at strides 8, 16 and 32."""
    return sum((shape[0] // stride) * (shape[1] // stride) for stride in (8, 16, 32))


async def test_the_edge_sends_the_trimmed_size(trimmed: Pack, folder: Path, tmp_path: Path) -> None:
    codec = build_codec(EdgeSettings(pack=str(folder / "trimmed"), threads=1))
    async with edge_rig(codec, tmp_path) as rig:
        for shape, canvas in SHAPES.items():
            reply = await rig.http.post(
                "/v1/frames", content=posted(shape), headers={"Content-Type": "image/png"}
            )
            assert reply.status_code == 200, reply.text
            header = parse(rig.cloud.frames[-1].bitstream).header
            assert (header.source_height, header.source_width) == shape
            assert (header.network_height, header.network_width) == canvas
        (detect,) = [row for row in (await rig.http.get("/v1/prompts")).json() if row["task"] == "detect"]
    assert (detect["network_height"], detect["network_width"]) == (SIDE, SIDE)  # the largest


def test_boxes_come_back_where_the_square_canvas_has_them(trimmed: Pack, runner: PackRunner) -> None:
    encoder = FeatureEncoder(trimmed, "ort-cpu")
    channels = 5 + len(LABELS)
    heads = {
        f"head_s{stride}": np.full((1, channels, SIDE // stride, SIDE // stride), 0.5, np.float32)
        for stride in (8, 16, 32)
    }
    on_square = decode_yolox(heads, EVERY_CELL.score_threshold).boxes
    for shape, canvas in SHAPES.items():
        found = corners(answered(runner, [coded(trimmed, encoder, posted(shape))])[0])
        wanted = boxes_to_source(on_square, FrameSize(*shape, SIDE, SIDE))
        assert len(found) == cells(canvas)
        apart = np.abs(found[:, None] - wanted[None]).max(axis=2)
        assert apart.min(axis=1).max() < 1e-3, shape  # each is one of the square canvas's, in source pixels


def test_masks_come_back_in_the_size_of_the_source(trimmed: Pack, runner: PackRunner) -> None:
    encoder = FeatureEncoder(trimmed, "ort-cpu")
    for shape in SHAPES:
        (output,) = answered(runner, [coded(trimmed, encoder, posted(shape), "segment")])
        assert isinstance(output, TaskOutput)
        assert isinstance(output.answer, SegmentationMask)
        assert output.answer.class_map().shape == shape


def test_frames_of_every_shape_in_one_batch_are_answered_as_alone(trimmed: Pack, runner: PackRunner) -> None:
    encoder = FeatureEncoder(trimmed, "ort-cpu")
    frames = [coded(trimmed, encoder, posted(shape)) for shape in SHAPES]
    for found, frame, shape in zip(answered(runner, frames), frames, SHAPES, strict=True):
        assert isinstance(found, TaskOutput)
        assert (found.header.source_height, found.header.source_width) == shape
        np.testing.assert_array_equal(corners(found), corners(answered(runner, [frame])[0]))


def test_only_frames_of_one_canvas_share_a_batch(trimmed: Pack, runner: PackRunner) -> None:
    encoder = FeatureEncoder(trimmed, "ort-cpu")
    shapes = ((480, 640), (640, 360), (360, 640), (240, 320))
    with ExitStack() as stack:
        admitted = [
            stack.enter_context(runner.admit(coded(trimmed, encoder, posted(shape)))) for shape in shapes
        ]
    four_three, phone, hd, again = (frame.group for frame in admitted)
    assert four_three == again
    assert len({four_three, phone, hd}) == 3


async def test_cameras_and_inference_clients_of_two_shapes_are_answered_at_once(
    trimmed: Pack, runner: PackRunner, tmp_path: Path
) -> None:
    encoder, shapes = FeatureEncoder(trimmed, "ort-cpu"), ((480, 640), (640, 360))
    settings = CloudSettings(port=0, metrics_port=0, data_dir=tmp_path, batch_window_s=0.1)
    async with CloudServer(settings, runner, CollectorRegistry()) as server:
        target = f"127.0.0.1:{server.grpc_port}"
        async with grpc.aio.insecure_channel(target, options=client_options()) as channel:
            frames = [coded(trimmed, encoder, posted(shape)) for shape in shapes]
            ingest, inference = FeatureIngestStub(channel), GRPCInferenceServiceStub(channel)
            calls = [ingest.Infer(_ingest(seq, data), timeout=PATIENCE_S) for seq, data in enumerate(frames)]
            asked = [inference.ModelInfer(_inference(data), timeout=PATIENCE_S) for data in frames]
            replies, answers = await asyncio.gather(*calls), await asyncio.gather(*asked)
    for reply, answer, shape in zip(replies, answers, shapes, strict=True):
        assert (reply.result.network_height, reply.result.network_width) == SHAPES[shape]
        found = answer_of(reply.result)
        assert isinstance(found, Detections)
        assert len(found.detections) == cells(SHAPES[shape])
        (boxes,) = [
            raw
            for tensor, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
            if tensor.name == "boxes"
        ]
        wanted = [(one.box.x1, one.box.y1, one.box.x2, one.box.y2) for one in found.detections]
        np.testing.assert_array_equal(np.frombuffer(boxes, "<f4").reshape(-1, 4), np.float32(wanted))


def _ingest(seq: int, data: bytes) -> InferRequest:
    key = FrameKey(device="box", camera="door", seq=seq + 1)
    return InferRequest(frame=Frame(key=key, capture_time_unix_nanos=1, task="detect", bitstream=data))


def _inference(data: bytes) -> wire.ModelInferRequest:
    tensor = wire.ModelInferRequest.InferInputTensor(name="bitstream", datatype="BYTES", shape=[1])
    raw = [struct.pack("<I", len(data)) + data]
    return wire.ModelInferRequest(model_name="detect", inputs=[tensor], raw_input_contents=raw)


def test_a_prompt_pack_keeps_the_trim(trimmed: Pack, tmp_path: Path) -> None:
    write_prompt_pack(trimmed, "detect", tmp_path / "detect.zip")
    codecs = {trimmed.codec_digest: trimmed.manifest.codec}
    assert load_prompt_pack(tmp_path / "detect.zip", codecs).manifest.section.input.trim


class Watched:
    """A system that keeps the canvases it was shown."""

    def __init__(self, system: System) -> None:
        self.system, self.canvases = system, list[Canvas]()
        self.codec, self.rate = system.codec, system.rate

    def run(self, canvas: Canvas) -> SystemOutput:
        self.canvases.append(canvas)
        output = self.system.run(canvas)
        height, width = canvas.pixels.shape[:2]
        assert output.outputs["head_s8"].shape[2:] == (height // 8, width // 8)
        return output


def test_teacher_picture_codecs_and_codec_are_measured_on_the_same_canvas(
    trimmed: Pack, tmp_path: Path
) -> None:
    shapes = [(96, 128), (128, 72), (64, 64), (72, 128)]
    data = write_tar(tmp_path / "coco.tar", coco_files(shapes, LABELS))
    teacher = open_teacher(write_detector(tmp_path / "teacher.onnx", len(LABELS)), "yolox", 1)
    jpeg = AnchorSystem(PillowAnchor("jpeg", (90,), ()), 90, teacher, 114)
    coding = codec_systems(trimmed, "detect", [1.0], "ort-cpu", 1, teacher)
    systems = [Watched(one) for one in (teacher, jpeg, *coding)]
    with open_dataset(data) as dataset:
        records = _measured(dataset, trimmed, systems)
    assert [len(record.num_bytes) for record in records] == [0, 4, 4]
    wanted = [(128, 160, 3), (160, 96, 3), (160, 160, 3), (96, 160, 3)]
    for system in systems:
        assert [canvas.pixels.shape for canvas in system.canvases] == wanted, system.codec


def _measured(dataset: Dataset, pack: Pack, systems: list[Watched]) -> list:
    return measure(DetectionScorer(dataset, LABELS), systems, pack.task("detect").input, lambda: None)


def as_shipped_but(pack: Pack, folder: Path, trim: bool) -> Pack:
    """A copy of a pack whose detector's canvas is trimmed or not."""
    for name in pack.manifest.files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(pack.file_bytes(name))
    manifest = json.loads(pack.file_bytes(MANIFEST_FILE))
    manifest["tasks"]["detect"]["input"]["trim"] = trim
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    return load_pack(folder)


@pytest.mark.slow
def test_the_shipped_detector_finds_the_same_on_a_trimmed_canvas(default_pack: Pack, tmp_path: Path) -> None:
    limits = ResultLimits(score_threshold=0.3, max_detections=1)
    answers = []
    for trim in (False, True):
        pack = as_shipped_but(default_pack, tmp_path / f"{trim}", trim)
        encoder = FeatureEncoder(pack, "ort-cpu")
        frames = [coded(pack, encoder, photo.read_bytes(), rate=2.0) for photo in packaged_photos()]
        answers.append(answered(PackRunner([pack], "ort-cpu", 1, limits), frames))
    apart = []
    for square, trimmed in zip(*answers, strict=True):
        assert isinstance(square, TaskOutput)
        assert isinstance(trimmed, TaskOutput)
        if trimmed.header.network_height < square.header.network_height and len(corners(square)):
            assert labels(trimmed) == labels(square)
            apart.append(np.abs(corners(trimmed) - corners(square)).max() / trimmed.header.source_width)
    assert len(apart) >= 2
    assert max(apart) < 0.05
