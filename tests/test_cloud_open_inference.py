"""The Open Inference Protocol: tritonclient gets the answers that cameras get, hostile input an error."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from cloud_helpers import PATIENCE_S, PROMPT, Cloud, bitstream, error_name, frame, running
from tiny_pack import noise_canvas, write_three_tasks

from splitcodec.codec import FeatureEncoder
from splitcodec.launch import start_service
from splitcodec.packs import Pack
from splitcodec.tasks import Detections, SegmentationMask, answer_of
from splitcodec.wire.v1 import open_inference_pb2 as wire
from splitcodec.wire.v1.ingest_pb2 import InferRequest
from splitcodec.wire.v1.ingest_pb2_grpc import FeatureIngestStub
from splitcodec.wire.v1.open_inference_pb2_grpc import GRPCInferenceServiceStub
from splitcodec.wire.v1.results_pb2 import TaskResult

TESTS = Path(__file__).resolve().parent


def _request(data: bytes, **fields: Any) -> wire.ModelInferRequest:
    tensor = wire.ModelInferRequest.InferInputTensor(name="bitstream", datatype="BYTES", shape=[1])
    raw = struct.pack("<I", len(data)) + data
    values = {"model_name": "detect", "inputs": [tensor], "raw_input_contents": [raw], **fields}
    return wire.ModelInferRequest(**values)


async def test_callers_that_ask_too_often_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path, device_frames_per_s=0.01) as cloud:
        ask = GRPCInferenceServiceStub(cloud.channel).ModelInfer
        await ask(_request(bitstream("a")), timeout=PATIENCE_S)
        assert await _refused(cloud, _request(bitstream("a"))) == "TooManyRequests"


async def _refused(cloud: Cloud, request: wire.ModelInferRequest) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await GRPCInferenceServiceStub(cloud.channel).ModelInfer(request, timeout=PATIENCE_S)
    return error_name(refused.value)


def _bitstreams(pack: Pack, folder: Path) -> list[Path]:
    """A file for each task, named after it."""
    encoder = FeatureEncoder(pack, threads=1)
    files = []
    for task, section in pack.manifest.tasks.items():
        size = (section.input.height, section.input.width)
        data = encoder.compress(noise_canvas(*size), pack.prompt(task), 1.0, size).data
        files.append(folder / f"{task}.bitstream")
        files[-1].write_bytes(data)
    return files


def _expected(result: TaskResult) -> dict[str, list[Any]]:
    """The tensors of a stored result, flat."""
    answer = answer_of(result)
    if isinstance(answer, Detections):
        found = answer.detections
        corners = [value for one in found for value in (one.box.x1, one.box.y1, one.box.x2, one.box.y2)]
        return {
            "labels": [one.label for one in found],
            "class_ids": [one.class_id for one in found],
            "scores": [one.score for one in found],
            "boxes": corners,
        }
    expected: dict[str, list[Any]] = {
        "labels": [one.label for one in answer.classes],
        "class_ids": [one.class_id for one in answer.classes],
    }
    if isinstance(answer, SegmentationMask):
        shares = [one.share for one in answer.classes]
        return {**expected, "shares": shares, "class_map": answer.class_map().ravel().tolist()}
    return {**expected, "scores": [one.score for one in answer.classes]}


@pytest.mark.slow
def test_tritonclient_gets_the_answers_that_cameras_get(tmp_path: Path) -> None:
    pytest.importorskip("tritonclient.utils", reason="pip install tritonclient python-rapidjson")
    pack = write_three_tasks(tmp_path / "pack")
    files = _bitstreams(pack, tmp_path)
    flags = [f"--packs={tmp_path / 'pack'}", f"--data-dir={tmp_path / 'data'}", "--metrics-port=0"]
    with start_service("cloud", [*flags, "--score-threshold=0"], tmp_path) as cloud:
        target = f"127.0.0.1:{cloud.ports['grpc_port']}"
        command = [sys.executable, str(TESTS / "triton_session.py"), target, *map(str, files)]
        said = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout)
        with grpc.insecure_channel(target) as channel:
            stub = FeatureIngestStub(channel)
            results = {
                path.stem: stub.Infer(
                    InferRequest(frame=frame(number, task=path.stem, bitstream=path.read_bytes())), timeout=60
                ).result
                for number, path in enumerate(files)
            }
    assert (said["live"], said["ready"], said["unknown_ready"]) == (True, True, False)
    assert said["server"]["name"] == "splitcodec-cloud"
    assert set(said["tasks"]) == {"detect", "segment", "classify"}
    for task, told in said["tasks"].items():
        assert (told["ready"], told["id"]) == (True, "one")
        assert told["version"] == pack.prompt(task).wire_digest.hex() == told["metadata"]["versions"][0]
        expected = _expected(results[task])
        assert set(told["outputs"]) == set(expected)
        assert told["outputs"]["labels"]["values"]
        for name, values in expected.items():
            found = told["outputs"][name]["values"]
            assert found == values or np.allclose(found, values, rtol=1e-6), (task, name)


async def test_the_answer_is_not_stored_and_runs_in_the_same_batches(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        stub = GRPCInferenceServiceStub(cloud.channel)
        answer = await stub.ModelInfer(_request(bitstream("one"), id="a"), timeout=PATIENCE_S)
        assert cloud.metric("splitcodec_cloud_stored_results") == 0
        assert cloud.runner.batches == [["one"]]
    assert (answer.id, answer.model_version) == ("a", PROMPT.hex())
    assert [output.name for output in answer.outputs] == ["labels", "class_ids", "scores", "boxes"]
    assert answer.raw_output_contents[0] == struct.pack("<I", 3) + b"one"
    assert np.frombuffer(answer.raw_output_contents[3], "<f4").tolist() == [1, 2, 3, 4]


async def test_only_the_outputs_that_were_asked_for_come(tmp_path: Path) -> None:
    asked = [wire.ModelInferRequest.InferRequestedOutputTensor(name="scores")]
    async with running(tmp_path) as cloud:
        stub = GRPCInferenceServiceStub(cloud.channel)
        answer = await stub.ModelInfer(_request(bitstream("one"), outputs=asked), timeout=PATIENCE_S)
    assert [output.name for output in answer.outputs] == ["scores"]
    assert len(answer.raw_output_contents) == 1


async def test_contents_beside_the_tensor_are_taken_too(tmp_path: Path) -> None:
    request = _request(bitstream("two"), raw_input_contents=[])
    request.inputs[0].contents.bytes_contents.append(bitstream("two"))
    async with running(tmp_path) as cloud:
        answer = await GRPCInferenceServiceStub(cloud.channel).ModelInfer(request, timeout=PATIENCE_S)
    assert answer.raw_output_contents[0] == struct.pack("<I", 3) + b"two"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"model_name": "nothing"}, "UnknownTask"),
        ({"model_version": "00" * 8}, "InvalidRequest"),
        ({"inputs": []}, "InvalidRequest"),
        ({"raw_input_contents": []}, "InvalidRequest"),
        ({"raw_input_contents": [b"", b""]}, "InvalidRequest"),
        ({"raw_input_contents": [b"\xff\xff\xff\xff"]}, "InvalidRequest"),
        ({"raw_input_contents": [b"\x04\x00\x00\x00evil"]}, "CorruptBitstream"),
        ({"outputs": [wire.ModelInferRequest.InferRequestedOutputTensor(name="x")]}, "InvalidRequest"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_bad_requests_get_a_typed_error(fields: dict[str, Any], error: str, tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        assert await _refused(cloud, _request(bitstream("one"), **fields)) == error
        assert cloud.metric("splitcodec_cloud_rejected_total", reason=error) == 1


async def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    request = _request(bitstream("one"))
    request.inputs[0].shape[:] = [2]
    async with running(tmp_path) as cloud:
        assert await _refused(cloud, request) == "InvalidRequest"
