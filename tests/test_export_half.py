"""Tails in float16: half the bytes, the numbers of the rounded network exactly, computed in float32."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import Tensor, nn
from training_rig import THIRD_PARTY

from splitcodec.errors import ExportMismatch
from splitcodec.export.half import round_to_half
from splitcodec.export.to_onnx import ExportInput, to_onnx
from splitcodec.runtime import open_session

pytestmark = pytest.mark.filterwarnings(THIRD_PARTY)


class Tail(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.wide = nn.Conv2d(4, 16, 3, padding=1)
        self.out = nn.Conv2d(16, 2, 1)
        self.inputs = ["feature"]

    def forward(self, feature: Tensor) -> tuple[Tensor]:
        return (self.out(torch.relu(self.wide(feature))),)


@pytest.mark.slow
def test_a_rounded_tail_is_stored_in_half_the_bytes_and_gives_its_numbers() -> None:
    tail, feature = Tail(), torch.randn(1, 4, 6, 5)
    whole = to_onnx(tail, [ExportInput("feature", feature, {})], ["logits"])
    before = tail(feature)[0].detach()
    round_to_half(tail)
    halved = to_onnx(tail, [ExportInput("feature", feature, {})], ["logits"], half=True)
    stored = {i.name: i.data_type for i in onnx.load_model_from_string(halved).graph.initializer}
    assert TensorProto.FLOAT16 in stored.values()
    assert len(halved) < len(whole)
    found = open_session(halved, "ort-cpu").run({"feature": feature.numpy()})["logits"]
    assert found.dtype == np.float32
    assert np.abs(found - tail(feature)[0].detach().numpy()).max() < 1e-6
    assert 0 < np.abs(found - before.numpy()).max() < 1e-2


def test_a_weight_beyond_float16_is_named() -> None:
    tail = Tail()
    with torch.no_grad():
        tail.wide.bias[3] = 1e6
    with pytest.raises(ExportMismatch, match=r"wide\.bias reaches 1e\+06; float16 ends at 65504"):
        round_to_half(tail)
