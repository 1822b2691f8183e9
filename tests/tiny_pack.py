"""A tiny but real pack: every graph, prompt, table and tail, in a few kilobytes.

Cy = 8 latent, Cz = 4 hyper-latent and Ch = 6 feature channels, K = 3 rate points. The weights are random and
mean nothing; names, shapes, strides, integer arithmetic and clipping follow the contract of the shipped
packs.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_graphs import (
    CY,
    CZ,
    PROMPT_SHAPES,
    K,
    decoder_graph,
    head_graph,
    hyper_encoder_graph,
    quantizer_graph,
    scale_graph,
)
from tiny_tails import (
    CH,
    CLASSIFY_LABELS,
    LABELS,
    SEGMENT_LABELS,
    classify_tail,
    even_tail,
    segment_tail,
    tail_graph,
)

from splitcodec.entropy import CDF_BITS, Z_MAX, build_gaussian_tables
from splitcodec.packs import InputConvention, Pack, Provenance, load_pack
from splitcodec.packs.write import PackContents, TaskContents, write_pack
from splitcodec.prompts import ExactConv


def prompt_tensors(seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """A whole prompt: graph inputs and rate tensors."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, NDArray[np.generic]] = {}
    for name, shape in PROMPT_SHAPES.items():
        fan_in = max(1, int(np.prod(shape[1:])))
        tensors[name] = (rng.normal(size=shape) / fan_in**0.5).astype(np.float32)
    tensors["h_s_scale.conv0.weight"] = rng.integers(-20, 21, PROMPT_SHAPES["h_s_scale.conv0.weight"]).astype(
        "f4"
    )
    tensors["h_s_scale.conv0.bias"] = rng.integers(300, 600, 16 * CY).astype("f4")
    tensors["rate.gain_y"] = np.geomspace(1, 8, K)[:, None].repeat(CY, 1).astype(np.float32)
    tensors["rate.gain_z"] = np.geomspace(1, 2, K)[:, None].repeat(CZ, 1).astype(np.float32)
    tensors["rate.scale_shift"] = (np.arange(K)[:, None] * 700).repeat(CY, 1).astype(np.int32)
    even, rest = divmod(1 << CDF_BITS, 2 * Z_MAX + 1)
    counts = np.full((K, CZ, 2 * Z_MAX + 1), even, np.int32)
    counts[..., Z_MAX] += rest
    tensors["rate.z_counts"] = counts
    return tensors


PROVENANCE = Provenance(
    created="2026-01-01", tool_version="0", seed=0, teachers=(), data=(), stages=(), notes="random weights"
)


@lru_cache(maxsize=1)
def contents() -> PackContents:
    """Contents of the tiny pack, with the task `detect`."""
    task = TaskContents(
        tensors=prompt_tensors(),
        tail=tail_graph(),
        tail_macs_per_pixel=(5 + len(LABELS)) * CH / 64,
        input=InputConvention(height=64, width=96, fit="letterbox", fill=114),
        labels=LABELS,
        postprocess="yolox",
    )
    graphs = {
        "head": head_graph(),
        "hyper_encoder": hyper_encoder_graph(),
        "scale": scale_graph(),
        "quantizer": quantizer_graph(),
        "decoder": decoder_graph(),
    }
    return PackContents(
        name="tiny",
        graphs=graphs,
        macs_per_pixel=dict.fromkeys(graphs, 1.0),
        feature_channels=CH,
        tables=build_gaussian_tables(),
        exact_bound={"h_s_scale.conv0": ExactConv(input_limit=Z_MAX, shift=4)},
        tasks={"detect": task},
        measured=(),
        provenance=PROVENANCE,
        model_card="# tiny\n",
    )


def with_task(task: str, seed: int) -> PackContents:
    """The tiny pack with one more task, whose prompt differs."""
    base = contents()
    other = replace(base.tasks["detect"], tensors=prompt_tensors(seed), tail=tail_graph(seed))
    return replace(base, tasks={**base.tasks, task: other})


def holding() -> PackContents:
    """The tiny pack with graphs that can hold cells."""
    base = contents()
    graphs = {**base.graphs, "quantizer": quantizer_graph(True), "decoder": decoder_graph(True)}
    return replace(base, graphs=graphs)


def three_tasks() -> PackContents:
    """The tiny pack with tasks `detect`, `segment` and `classify`, each with its own prompt and canvas."""
    base = contents()
    segment = TaskContents(
        tensors=prompt_tensors(21),
        tail=segment_tail(),
        tail_macs_per_pixel=len(SEGMENT_LABELS) * CH / 64,
        input=InputConvention(height=64, width=64, fit="stretch", fill=0),
        labels=SEGMENT_LABELS,
        postprocess="deeplab",
    )
    classify = TaskContents(
        tensors=prompt_tensors(22),
        tail=classify_tail(),
        tail_macs_per_pixel=len(CLASSIFY_LABELS) * CH / 64,
        input=InputConvention(height=64, width=64, fit="crop", fill=0, crop=0.875),
        labels=CLASSIFY_LABELS,
        postprocess="classify",
    )
    return replace(base, tasks={**base.tasks, "segment": segment, "classify": classify})


def write_three_tasks(folder: Path) -> Pack:
    """Writes the tiny pack with three tasks into `folder` and loads it."""
    write_pack(folder, three_tasks())
    return load_pack(folder)


def write_tiny_pack(folder: Path) -> Pack:
    """Writes the tiny pack into `folder` and loads it."""
    write_pack(folder, contents())
    return load_pack(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tiny pack in a folder of its own."""
    write_tiny_pack(tmp_path / "tiny")
    return tmp_path / "tiny"


def noise_canvas(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A canvas of random pixels, uint8 [height, width, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_trimmed(folder: Path, height: int, width: int) -> Pack:
    """Writes the tiny pack with tasks `detect` and `segment`, both trimmed in a box of this size.

    The detector sees one box of score 0.25 and one shape around every cell, whatever the picture shows.
    """
    base = three_tasks()
    box = InputConvention(height=height, width=width, fit="letterbox", fill=114, trim=True)
    detect = replace(base.tasks["detect"], input=box, tail=even_tail())
    segment = replace(base.tasks["segment"], input=box)
    write_pack(folder, replace(base, tasks={"detect": detect, "segment": segment}))
    return load_pack(folder)
