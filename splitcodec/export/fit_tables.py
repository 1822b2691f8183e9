"""Symbol tables fitted to one task: counted symbols per sigma index, with the Gaussian as prior.

A Gaussian of the index's sigma is what the scale branch was trained for, but symbols are more peaked than
that. Counted on training photos, the tables save a few per cent of y at no cost at run time. They are
integers from here on and travel in the prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splitcodec.entropy import CDF_BITS, SymbolTables
from splitcodec.export.graphs import HeadGraph, HyperEncoderGraph, QuantizerGraph, ScaleGraph
from splitcodec.frame import to_canvas
from splitcodec.models.codec import FeatureCodec
from splitcodec.packs.convention import InputConvention

PRIOR_SYMBOLS = 200  # the Gaussian's mass counts as much as this many symbols of each sigma index
FIT_PHOTOS = 150
Array = NDArray[Any]


def fit_photos(photos: Sequence[Array], count: int = FIT_PHOTOS) -> list[Array]:
    """At most `count` of the photos, evenly spread over the collection."""
    if len(photos) <= count:
        return list(photos)
    return [photos[i * len(photos) // count] for i in range(count)]


def fitted_tables(
    codec: FeatureCodec,
    prompt: Mapping[str, Tensor],
    tables: SymbolTables,
    photos: Iterable[Array],
    convention: InputConvention,
) -> NDArray[np.int32]:
    """The tensor `rate.y_counts` (levels, 2*max limit+1) of a prompt, whose rate tensors are among `prompt`.

    photos: uint8 [h, w, 3] RGB, training photos; each is coded at every trained rate.
    """
    found = np.zeros(tables.counts.shape, dtype=np.int64)
    for photo in photos:
        canvas = torch.from_numpy(np.array(to_canvas(photo, convention).pixels))
        image = canvas.permute(2, 0, 1)[None].float()
        for point in range(len(prompt["rate.gain_y"])):
            index, symbols = _symbols(codec, prompt, tables, image, point)
            np.add.at(found, (index.ravel(), symbols.ravel() + found.shape[1] // 2), 1)
    return with_prior(found, tables)


def with_prior(found: NDArray[np.int64], tables: SymbolTables) -> NDArray[np.int32]:
    """Counted symbols (levels, width), centred -> counts of each support that sum to 2**CDF_BITS."""
    gaussian = tables.counts.astype(np.float64) / (1 << CDF_BITS)
    counts = np.zeros_like(tables.counts)
    centre = counts.shape[1] // 2
    for level in range(tables.levels):
        reach = int(tables.limit[level])
        support = slice(centre - reach, centre + reach + 1)
        mass = found[level, support] + PRIOR_SYMBOLS * gaussian[level, support]
        counts[level, support] = integer_counts(mass)
    return counts


def integer_counts(mass: NDArray[np.float64]) -> NDArray[np.int32]:
    """Masses (..., n) >= 0 -> counts >= 1, rows of sum 2**CDF_BITS; the peak takes what rounding leaves."""
    total = 1 << CDF_BITS
    share = mass / mass.sum(axis=-1, keepdims=True)
    counts = np.maximum(1, np.floor(share * (total - mass.shape[-1]))).astype(np.int64)
    peak = counts.argmax(axis=-1)[..., None]
    rest = total - counts.sum(axis=-1, keepdims=True)
    np.put_along_axis(counts, peak, np.take_along_axis(counts, peak, -1) + rest, -1)
    return counts.astype(np.int32)


@torch.no_grad()
def _symbols(
    codec: FeatureCodec, prompt: Mapping[str, Tensor], tables: SymbolTables, image: Tensor, point: int
) -> tuple[Array, Array]:
    """Sigma indexes and symbols (Cy, h, w) of one picture, by the modules the pack's graphs are made of."""
    head, hyper, scale, quantizer = (
        graph(codec) for graph in (HeadGraph, HyperEncoderGraph, ScaleGraph, QuantizerGraph)
    )
    gain_y, gain_z = (prompt[f"rate.gain_{name}"][point][None, :, None, None] for name in "yz")
    shift = torch.floor((prompt["rate.scale_shift"][point].float() + 128.0) / 256.0)[None, :, None, None]

    def bend(graph: HeadGraph | HyperEncoderGraph | ScaleGraph | QuantizerGraph) -> list[Tensor]:
        return [prompt[name].float() for name in graph.prompt]

    y, _ = head(image, gain_y, *bend(head))
    z = hyper(y, gain_z, *bend(hyper))
    index = scale(z, shift, *bend(scale))[:, :, : y.shape[2], : y.shape[3]].long()
    limit = torch.from_numpy(tables.limit.astype(np.float32))[index]
    symbols = quantizer(y, z, 1.0 / gain_z, limit, *bend(quantizer))
    return index[0].numpy(), symbols[0].long().numpy()
