"""Checks of a pack beyond its schema: what its graphs take and give, and that its scale graph is exact."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from splitcodec.entropy import SIGMA_LEVELS, Z_MAX
from splitcodec.errors import InvalidManifest, SigmaIndexMismatch
from splitcodec.packs.onnx_graph import read_outline
from splitcodec.packs.schema import (
    GRAPH_INPUTS,
    GRAPH_OUTPUT,
    HOLD_INPUTS,
    IMPORTANCE_OUTPUT,
    LATENT_OUTPUT,
    PICTURE_OUTPUT,
    TAIL_INPUT,
    CodecSection,
)
from splitcodec.prompts.prompt import Prompt
from splitcodec.prompts.schema import GraphName
from splitcodec.runtime.session import Session
from splitcodec.wire.names import RATE_ONE

Array = NDArray[Any]
CHECK_SIZE: Final = (4, 5)
"""Height and width, in hyper-latent cells, of the check input."""


def check_graph(name: GraphName, data: bytes, codec: CodecSection) -> bool:
    """Whether a codec graph can hold cells. Raises InvalidManifest unless it takes exactly its inputs and
    prompt tensors, and gives its outputs; UnsafePack as `read_outline` does.
    """
    outline = read_outline(data, f"{name}.onnx")
    prompt = {key: spec.shape for key, spec in codec.prompt_schema.items() if name in spec.graphs}
    holds = name in ("quantizer", "decoder") and LATENT_OUTPUT in outline.outputs
    expected = {*GRAPH_INPUTS[name], *prompt, *(HOLD_INPUTS if holds else ())}
    if set(outline.inputs) != expected:
        missing, extra = sorted(expected - set(outline.inputs)), sorted(set(outline.inputs) - expected)
        raise InvalidManifest(f"{name}.onnx lacks inputs {missing} and has extra {extra}; export it again")
    for key, shape in prompt.items():
        if outline.inputs[key] != shape:
            raise InvalidManifest(
                f"{name}.onnx takes {key} as {outline.inputs[key]}, the prompt schema says {shape}"
            )
    optional = {"head": {IMPORTANCE_OUTPUT}, "quantizer": {LATENT_OUTPUT}, "decoder": {LATENT_OUTPUT}}
    if set(outline.outputs) - optional.get(name, set()) != {GRAPH_OUTPUT[name]}:
        raise InvalidManifest(
            f"{name}.onnx gives {sorted(outline.outputs)}; it must give {GRAPH_OUTPUT[name]}"
        )
    return holds


def check_tail(name: str, data: bytes) -> None:
    """Raises InvalidManifest unless a tail takes the feature alone; UnsafePack as `read_outline` does."""
    outline = read_outline(data, name)
    if set(outline.inputs) != {TAIL_INPUT}:
        raise InvalidManifest(f"{name} takes {sorted(outline.inputs)}; a tail takes {TAIL_INPUT} alone")


def check_picture(name: str, data: bytes) -> None:
    """Raises InvalidManifest unless an image extractor takes the feature alone and gives a picture."""
    outline = read_outline(data, name)
    if set(outline.inputs) != {TAIL_INPUT} or set(outline.outputs) != {PICTURE_OUTPUT}:
        raise InvalidManifest(
            f"{name} takes {sorted(outline.inputs)} and gives {sorted(outline.outputs)}; an image extractor "
            f"takes {TAIL_INPUT} and gives {PICTURE_OUTPUT}"
        )


def to_sigma_index(values: Array) -> NDArray[np.uint8]:
    """Output of the scale graph, any shape -> uint8.

    Raises SigmaIndexMismatch unless all are integers in 0..63.
    """
    index = np.clip(np.nan_to_num(values), 0, SIGMA_LEVELS - 1).astype(np.uint8)
    if not np.array_equal(index, values):
        raise SigmaIndexMismatch(
            f"the scale graph gave values from {values.min()} to {values.max()} that are not all integers in "
            f"0..{SIGMA_LEVELS - 1}; this engine is not exact: run `splitcodec doctor`"
        )
    return index


def prompt_sigma_check(
    session: Session, exact: Mapping[str, Array], scale_shift: Array, hyper_channels: int
) -> str:
    """SHA-256, in hex, of the sigma indexes (uint8, C order) at every trained rate point for the check input.

    exact: the prompt tensors of the scale graph; scale_shift: int32 [K, Cy]. The input is [K, Cz, 4, 5] and
    its flat value i is ((i * 2654435761 mod 2**32) >> 16) mod 63 - 31: a fixed formula, the same in every
    language.
    """
    points = len(scale_shift)
    shape = (points, hyper_channels, *CHECK_SIZE)
    i = np.arange(np.prod(shape), dtype=np.uint64)
    z = ((i * 2654435761 % (1 << 32)) >> 16) % (2 * Z_MAX + 1)
    shift = (scale_shift.astype(np.int64) + RATE_ONE // 2) >> 8
    inputs = {
        "z_symbols": (z.astype(np.int64) - Z_MAX).astype(np.float32).reshape(shape),
        "rate_shift": shift.astype(np.float32).reshape(points, -1, 1, 1),
        **exact,
    }
    index = to_sigma_index(session.run(inputs)["sigma_index"])
    return hashlib.sha256(index.tobytes()).hexdigest()


def verify_sigma_check(session: Session, prompt: Prompt) -> None:
    """Runs the check input through the scale graph with a prompt.

    Raises SigmaIndexMismatch if this machine differs.
    """
    found = prompt_sigma_check(
        session,
        prompt.graph_inputs("scale"),
        prompt.tensors["rate.scale_shift"],
        prompt.tensors["rate.gain_z"].shape[1],
    )
    if found != prompt.sigma_check:
        raise SigmaIndexMismatch(
            f"the scale graph of {session.engine} gives sigma check {found} for prompt {prompt.digest}, the "
            "pack says "
            f"{prompt.sigma_check}; this machine would not decode what others encode: report it with your "
            "CPU model"
        )
