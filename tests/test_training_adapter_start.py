"""A new teacher's adapter starts at the least-squares map, not at random."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from splitcodec.errors import TrainingError
from splitcodec.models.transforms import FeatureAdapter
from splitcodec.training.adapter_start import fit_adapter


def linear_pairs(adapter: FeatureAdapter, batches: int) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Targets that are an exact linear map of what the adapter's last convolution reads."""
    torch.manual_seed(3)
    weight = torch.randn(adapter.out.out_channels, adapter.out.in_channels, 1, 1)
    bias = torch.randn(adapter.out.out_channels)
    pairs = []
    for _ in range(batches):
        feature = torch.randn(2, adapter.out.in_channels, 6, 5)
        with torch.no_grad():
            target = F.conv2d(adapter.mix(feature), weight, bias)
        pairs.append((feature, F.pixel_shuffle(target, adapter.up) if adapter.up > 1 else target))
    return weight, pairs


@pytest.mark.parametrize("stride", [8, 4])
def test_a_linear_relation_is_found(stride: int) -> None:
    torch.manual_seed(1)
    adapter = FeatureAdapter(8, 3, stride)
    weight, pairs = linear_pairs(adapter, batches=4)
    fit_adapter(adapter, pairs)
    assert (adapter.out.weight - weight).abs().max() < 0.02 * weight.abs().max()
    for feature, target in pairs:
        with torch.no_grad():
            error = (adapter(feature) - target).square().mean() / target.var()
        assert error < 1e-4


def test_channels_that_never_vary_get_no_weight() -> None:
    adapter = FeatureAdapter(8, 3)
    with torch.no_grad():
        feature = torch.zeros(2, 8, 6, 5)
        fit_adapter(adapter, [(feature, torch.full((2, 3, 6, 5), 2.5))])
        torch.testing.assert_close(adapter(feature), torch.full((2, 3, 6, 5), 2.5))
    assert adapter.out.weight.abs().max() < 1e-3


def test_nothing_to_fit_to_is_refused() -> None:
    with pytest.raises(TrainingError, match="no pairs"):
        fit_adapter(FeatureAdapter(8, 3), [])
