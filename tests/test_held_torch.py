"""A chain of frames that hold cells, coded by ONNX Runtime and decoded by torch: two engines, one state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from training_rig import THIRD_PARTY, WholeRun, whole_run

from splitcodec.codec import FeatureDecoder, FeatureEncoder
from splitcodec.export.graphs import CodecGraph, HeldDecoderGraph, ScaleGraph
from splitcodec.packs import load_pack
from splitcodec.runtime import Session

__all__ = ["whole_run"]
pytestmark = [pytest.mark.timeout(900), pytest.mark.filterwarnings(THIRD_PARTY), pytest.mark.slow]

FRAMES = 1000
LOUDER = 300.0  # the head is untrained: without it every symbol is 0
SIZE = (64, 96)


class TorchSession:
    """A graph as torch runs it, in place of a session."""

    def __init__(self, graph: CodecGraph) -> None:
        self._graph = graph

    def run(self, feed: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        with torch.no_grad():
            given = self._graph(*(torch.tensor(feed[name]) for name in self._graph.inputs))
        outputs = given if isinstance(given, tuple) else (given,)
        return dict(zip(self._graph.outputs, (one.numpy() for one in outputs), strict=True))


class LouderHead:
    def __init__(self, head: Session) -> None:
        self._head = head

    def run(self, feed: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        given = dict(self._head.run(feed))
        return {**given, "y": given["y"] * np.float32(LOUDER)}


def view(step: int) -> NDArray[np.uint8]:
    """A square moves over a fixed background, which flickers a little."""
    seen = np.random.default_rng(0).integers(40, 90, (*SIZE, 3)).astype(np.int16)
    seen += np.random.default_rng(step).integers(-2, 3, seen.shape, dtype=np.int16)
    left = 8 * step % (SIZE[1] - 32)
    seen[16:48, left : left + 32] = 230
    return seen.astype(np.uint8)


def test_a_thousand_frames_do_not_drift_between_onnx_runtime_and_torch(
    whole_run: WholeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = np.random.default_rng(0)
    monkeypatch.setattr(
        "splitcodec.codec.encoder.choose_cells", lambda y, state, *_: dice.random(state.held.shape) < 0.7
    )
    pack, codec = load_pack(whole_run.pack), whole_run.parts.codec
    encoder = FeatureEncoder(pack, "ort-cpu", 2)
    encoder._head = LouderHead(encoder._head)  # type: ignore[assignment]
    runtime, by_torch = (FeatureDecoder(pack, "ort-cpu", 1) for _ in range(2))
    by_torch._decoder = TorchSession(HeldDecoderGraph(codec))  # type: ignore[assignment]
    by_torch._scale.session = TorchSession(ScaleGraph(codec))  # type: ignore[assignment]
    prompt = pack.prompt(pack.tasks[0])
    sent = encoder.compress(view(0), prompt, 1.0, SIZE, chain=True)
    ours, theirs, sizes = runtime.decompress(sent.data), by_torch.decompress(sent.data), []
    for step in range(1, FRAMES):
        sent = encoder.compress_held(view(step), sent.state)
        ours = runtime.decompress(sent.data, ours.state())
        theirs = by_torch.decompress(sent.data, theirs.state())
        assert ours.state().name == theirs.state().name == sent.state.name, step
        np.testing.assert_allclose(theirs.state().latent, ours.state().latent, atol=1e-3)
        np.testing.assert_allclose(theirs.feature, ours.feature, atol=1e-2)
        sizes.append(sent.num_bytes)
    assert np.mean(sizes) > 40  # symbols travelled
