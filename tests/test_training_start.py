"""A codec that starts from its teacher: its layers exactly, then a transform code of its feature."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch.nn import functional as F
from training_rig import THIRD_PARTY, TINY

from splitcodec.errors import TrainingError
from splitcodec.models.codec import RateGains
from splitcodec.models.front import DarknetFront
from splitcodec.models.transforms import DarknetAnalysis
from splitcodec.training.start import (
    _teacher_name,
    load_front,
    principal_start,
    quantiser_step,
    start_from_teacher,
)
from splitcodec.training.teacher import SplitStatistics

pytestmark = pytest.mark.filterwarnings(THIRD_PARTY)
WIDTH = 16
SIZES = replace(TINY, head="darknet", head_channels=(WIDTH, 8), head_blocks=(0, 1))


def _teacher_file(path: Path, channels: int = WIDTH) -> dict[str, torch.Tensor]:
    """An ONNX file with the tensors of a YOLOX backbone of this width; returns them by name."""
    rng = np.random.default_rng(5)
    tensors = {
        _teacher_name(name): rng.normal(size=tuple(value.shape)).astype(np.float32) / 4
        for name, value in DarknetFront(channels).state_dict().items()
    }
    stored = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    onnx.save(helper.make_model(helper.make_graph([], "backbone", [], [], stored)), str(path))
    return {name: torch.from_numpy(value) for name, value in tensors.items()}


def _focus(bgr: torch.Tensor) -> torch.Tensor:
    """YOLOX's stem input: the 2x2 pixels as top left, bottom left, top right, bottom right."""
    return torch.cat([bgr[..., y::2, x::2] for y, x in ((0, 0), (1, 0), (0, 1), (1, 1))], dim=1)


def test_front_reads_rgb_as_the_teacher_reads_bgr(tmp_path: Path) -> None:
    tensors = _teacher_file(tmp_path / "teacher.onnx")
    front = DarknetFront(WIDTH)
    load_front(front, tmp_path / "teacher.onnx")
    rgb = torch.rand(2, 3, 32, 48) * 255.0
    weight, bias = tensors["backbone.stem.conv.weight"], tensors["backbone.stem.conv.bias"]
    wanted = F.silu(F.conv2d(_focus(rgb.flip(1)), weight, bias, padding=1))
    ours = front.stem(F.pixel_unshuffle(rgb / 127.5, 2))
    assert torch.allclose(ours, wanted, rtol=1e-4, atol=1e-2)
    deep = front.stage3.bottlenecks[2].conv2.dconv[0].weight
    assert torch.equal(deep, tensors["backbone.dark3.csp.m2.conv2.dconv.weight"])


def test_teacher_of_another_width_is_refused_by_name_and_shape(tmp_path: Path) -> None:
    _teacher_file(tmp_path / "wide.onnx", 32)
    with pytest.raises(
        TrainingError, match=r"wide\.onnx has \(8, 12, 3, 3\) as backbone\.stem\.conv\.weight"
    ):
        load_front(DarknetFront(WIDTH), tmp_path / "wide.onnx")


def _statistics(channels: int) -> SplitStatistics:
    return SplitStatistics(torch.full((channels,), 2.0), torch.ones(channels))


def test_latent_starts_as_decorrelated_components_with_the_largest_variance_first() -> None:
    torch.manual_seed(3)
    analysis = DarknetAnalysis(SIZES)
    crops = [torch.rand(4, 3, 64, 64) * 255.0 for _ in range(4)]
    variances = principal_start(analysis, _statistics(WIDTH), crops)
    with torch.no_grad():
        y = torch.cat([analysis.down(analysis.front(image / 127.5)) for image in crops])
    covariance = torch.cov(y.permute(1, 0, 2, 3).flatten(1))
    assert torch.allclose(covariance.diagonal(), variances, rtol=1e-3)
    assert (variances[:-1] >= variances[1:]).all()
    off = covariance - torch.diag(covariance.diagonal())
    assert off.abs().max() < 1e-3 * variances[0]


def test_quantiser_step_costs_the_bits_it_was_asked_for() -> None:
    variances = torch.tensor([4.0, 1.0, 0.25])
    step = quantiser_step(variances, 6.0)
    bits = 0.5 * torch.log2(2 * np.pi * np.e * variances / step**2)
    assert float(bits.clamp_min(0).sum()) == pytest.approx(6.0, abs=1e-3)
    assert quantiser_step(variances, 3.0) > step


def test_codec_on_patches_cannot_start_from_a_detector(tmp_path: Path) -> None:
    class _PatchCodec:
        sizes = TINY
        g_a = torch.nn.Identity()

    with pytest.raises(TrainingError, match="tiny has no darknet front"):
        start_from_teacher(_PatchCodec(), RateGains(TINY), _statistics(8), tmp_path / "t.onnx", [])  # type: ignore[arg-type]
