"""A frame on which the graphs fail harms no other and is refused for good; an ill engine settles nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from cloud_helpers import PATIENCE_S, answered, frame, running
from cloud_streams import acks, collect
from onnx import helper, numpy_helper
from tiny_pack import contents, decoder_graph, noise_canvas, tail_graph

from cloud.blame import answer_each
from cloud.packs import PackRunner
from cloud.runner import TaskOutput
from splitcodec.codec import FeatureDecoder, FeatureEncoder
from splitcodec.errors import GraphFailed, SigmaIndexMismatch, SplitcodecError, UndecodableFrame
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.write import write_pack
from splitcodec.tasks import ResultLimits
from splitcodec.wire.v1.ingest_pb2 import StreamRequest

EVERYTHING = ResultLimits(score_threshold=0.0, max_detections=20)
POISON_RATE = 2.0
Answers = list[TaskOutput | SplitcodecError]


def failing_above(graph: bytes, tensor: str, limit: float, sign: float = 1.0) -> bytes:
    """The graph, which now fails when any value of sign * tensor in its batch is above the limit."""
    made = onnx.load_from_string(graph)
    last = made.graph.node[-1]
    output, last.output[0] = last.output[0], "unguarded"
    made.graph.node.extend(
        [
            helper.make_node("Mul", [tensor, "guard.sign"], ["guard.signed"]),
            helper.make_node("ReduceMax", ["guard.signed"], ["guard.max"], keepdims=0),
            helper.make_node("Greater", ["guard.max", "guard.limit"], ["guard.above"]),
            helper.make_node("Cast", ["guard.above"], ["guard.index"], to=onnx.TensorProto.INT64),
            helper.make_node("Gather", ["guard.ones", "guard.index"], ["guard.one"]),  # index 1 is outside
            helper.make_node("Mul", ["unguarded", "guard.one"], [output]),
        ]
    )
    constants = {"guard.sign": sign, "guard.limit": limit, "guard.ones": [1.0]}
    made.graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()
    )
    return bytes(made.SerializeToString())


def write(folder: Path, decoder: bytes, tail: bytes) -> Pack:
    base = contents()
    task = replace(base.tasks["detect"], tail=tail)
    graphs = {**base.graphs, "decoder": decoder}
    write_pack(folder, replace(base, graphs=graphs, tasks={"detect": task}))
    return load_pack(folder)


def encoded(pack: Pack) -> list[bytes]:
    """Three frames of one size; the second has a rate of its own."""
    encoder = FeatureEncoder(pack, engine="ort-cpu")
    rates = (0.0, POISON_RATE, 1.0)
    return [
        encoder.compress(noise_canvas(64, 96, seed), pack.prompt("detect"), rate, (64, 96)).data
        for seed, rate in enumerate(rates)
    ]


def ill_in_the_decoder(folder: Path) -> tuple[Pack, list[bytes]]:
    """The decoder fails at rate 2, where the inverse gain is an eighth."""
    pack = write(folder, failing_above(decoder_graph(), "gain_y_inv", -0.2, sign=-1.0), tail_graph())
    return pack, encoded(pack)


def ill_in_the_tail(folder: Path) -> tuple[Pack, list[bytes]]:
    """The tail fails on the frame with the largest feature, which is put second."""
    sound = write(folder / "sound", decoder_graph(), tail_graph())
    decoder = FeatureDecoder(sound, engine="ort-cpu")
    peaks = [float(decoder.decompress(data).feature.max()) for data in encoded(sound)]
    low, middle, high = np.argsort(peaks)
    limit = (peaks[middle] + peaks[high]) / 2
    pack = write(folder / "ill", decoder_graph(), failing_above(tail_graph(), "feature", limit))
    frames = encoded(pack)
    return pack, [frames[low], frames[high], frames[middle]]


PLACES = [ill_in_the_decoder, ill_in_the_tail]
Place = Callable[[Path], tuple[Pack, list[bytes]]]


def answers(outputs: Answers) -> list[object]:
    return [output.answer if isinstance(output, TaskOutput) else type(output) for output in outputs]


@pytest.mark.parametrize("place", PLACES)
def test_a_frame_on_which_a_graph_fails_is_refused_for_good_and_harms_no_other(
    tmp_path: Path, place: Place
) -> None:
    pack, (first, poison, last) = place(tmp_path)
    runner = PackRunner([pack], "ort-cpu", 1, EVERYTHING)
    alone = [answered(runner, [data])[0] for data in (first, last)]
    together = answered(runner, [first, poison, last])
    assert all(isinstance(output, TaskOutput) for output in alone)
    assert answers(together) == [answers(alone)[0], UndecodableFrame, answers(alone)[1]]
    assert "do not send it again" in str(together[1])


@pytest.mark.parametrize("place", PLACES)
def test_a_lone_frame_is_blamed_once_the_graphs_have_run_without_it(tmp_path: Path, place: Place) -> None:
    pack, (_, poison, _) = place(tmp_path)
    assert answers(answered(PackRunner([pack], "ort-cpu", 1, EVERYTHING), [poison])) == [UndecodableFrame]


@pytest.mark.parametrize("part", ["decoder", "tail"])
def test_an_engine_that_runs_nothing_settles_no_frame(tmp_path: Path, part: str) -> None:
    pack = write(tmp_path, decoder_graph(), tail_graph())
    frames = encoded(pack)
    runner = PackRunner([pack], "ort-cpu", 1, EVERYTHING)
    (live,) = runner._live.values()
    if part == "decoder":
        live.decoder._decoder = _Lost()  # type: ignore[assignment]
    else:
        live.tail._session = _Lost()  # type: ignore[assignment]
    assert answers(answered(runner, frames)) == [GraphFailed] * 3


class _Lost:
    """A session whose device is gone."""

    def run(self, inputs: object) -> dict[str, object]:
        raise GraphFailed("graph failed in cuda: device lost")


def test_a_tail_that_runs_nothing_is_refused_at_load(tmp_path: Path) -> None:
    pack = write(tmp_path, decoder_graph(), failing_above(tail_graph(), "feature", -1e9))
    with pytest.raises(GraphFailed, match="tail:detect failed"):
        PackRunner([pack], "ort-cpu", 1, EVERYTHING)


async def test_a_stream_goes_on_behind_a_frame_on_which_the_graphs_fail(tmp_path: Path) -> None:
    pack, bitstreams = ill_in_the_tail(tmp_path)
    runner = PackRunner([pack], "ort-cpu", 1, EVERYTHING)
    requests = [StreamRequest(frame=frame(seq, bitstream=data)) for seq, data in enumerate(bitstreams)]
    async with running(tmp_path / "data", runner, score_threshold=0) as cloud:
        responses, error = await asyncio.wait_for(collect(cloud, requests), PATIENCE_S)
        assert cloud.metric("splitcodec_cloud_rejected_total", reason="UndecodableFrame") == 1
    (rejection,) = [rejection for response in responses for rejection in response.rejections]
    assert error is None
    assert (rejection.key.seq, rejection.error, rejection.settled) == (1, "UndecodableFrame", True)
    assert [result.key.seq for response in responses for result in response.results] == [0, 2]
    assert acks(responses)[-1] == ("door", 2)


def test_an_error_that_items_share_is_given_only_to_those_that_have_it_alone() -> None:
    def run(items: Sequence[int]) -> list[int | SplitcodecError]:
        if 3 in items:
            raise SigmaIndexMismatch("not exact")
        return list(items)

    outcomes = answer_each(run, [1, 3, 5], probe=lambda item: None)
    assert (outcomes[0], type(outcomes[1]), outcomes[2]) == (1, SigmaIndexMismatch, 5)


def test_an_error_of_no_known_kind_is_a_failure_like_that_of_a_graph() -> None:
    def run(items: Sequence[int]) -> list[int | SplitcodecError]:
        return [10 // item for item in items]

    probed: list[int] = []
    outcomes = answer_each(run, [1, 0, 5], probe=probed.append)
    assert (outcomes[0], type(outcomes[1]), outcomes[2]) == (10, UndecodableFrame, 2)
    assert probed == [0]


class _Panic(BaseException):
    """What an extension written in Rust raises when it panics: no Exception."""


def test_a_panic_of_an_extension_is_blamed_like_any_failure() -> None:
    def run(items: Sequence[int]) -> list[int | SplitcodecError]:
        if 0 in items:
            raise _Panic("index out of bounds")
        return list(items)

    def panic(_: int) -> None:
        raise _Panic("index out of bounds")

    outcomes = answer_each(run, [1, 0, 5], probe=lambda item: None)
    assert (outcomes[0], type(outcomes[1]), outcomes[2]) == (1, UndecodableFrame, 5)
    (ill,) = answer_each(run, [0], probe=panic)
    assert type(ill) is GraphFailed


@pytest.mark.parametrize("place", PLACES)
def test_the_parts_on_ray_blame_a_frame_likewise(tmp_path: Path, place: Place) -> None:
    ray_app = pytest.importorskip("cloud.ray_app", reason="Ray is not installed")
    pack, frames = place(tmp_path)
    folder = str(tmp_path if place is ill_in_the_decoder else tmp_path / "ill")
    options = ray_app.AppOptions(packs=(folder,), engine="ort-cpu", score_threshold=0)
    decoder = ray_app.Decoder(options.placed(pack, folder))
    tail = ray_app.Tail(options.placed(pack, folder, "detect"))
    outputs = tail._answer(decoder._decode(frames))
    assert [type(output) for output in outputs] == [TaskOutput, UndecodableFrame, TaskOutput]
