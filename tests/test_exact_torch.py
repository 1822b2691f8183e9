"""Two engines, one answer: the shipped scale graph in torch and in ONNX Runtime, 1,000 random z."""

from __future__ import annotations

import io

import numpy as np
import pytest

from splitcodec.packs import Pack
from splitcodec.runtime import open_session

NUM_Z, BATCH, SIZE = 1000, 8, 7


def _in_torch(pack: Pack, shift: np.ndarray):  # type: ignore[no-untyped-def]
    """The shipped graph as a torch module of z alone: prompt and rate shift become constants."""
    import onnx
    from onnx import numpy_helper
    from onnx2torch import convert

    model = onnx.load(io.BytesIO(pack.graph_bytes("scale")))
    constants = {**pack.prompt("detect").graph_inputs("scale"), "rate_shift": shift}
    kept = [value for value in model.graph.input if value.name == "z_symbols"]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return convert(model).eval()


@pytest.mark.slow
def test_torch_and_onnxruntime_agree_on_every_sigma_index(default_pack: Pack) -> None:
    import torch

    prompt = default_pack.prompt("detect")
    shift = prompt.rate_inputs(384).rate_shift
    session = open_session(default_pack.graph_bytes("scale"), "ort-cpu", 1, name="scale", exact=True)
    network = _in_torch(default_pack, shift)
    random = np.random.default_rng(5)
    channels = default_pack.manifest.codec.hyper_channels
    seen = 0
    while seen < NUM_Z:
        spread = random.integers(1, 32)
        z = random.integers(-spread, spread + 1, (BATCH, channels, SIZE, SIZE)).astype(np.float32)
        feed = {"z_symbols": z, "rate_shift": shift.repeat(BATCH, 0), **prompt.graph_inputs("scale")}
        with torch.no_grad():
            index = network(torch.from_numpy(z)).numpy()
        np.testing.assert_array_equal(session.run(feed)["sigma_index"], index)
        seen += BATCH
