"""What a prompt pack must hold: one entry per tensor, and the numbers behind the exactness bound."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

RATE_TENSORS: Final = ("rate.gain_y", "rate.gain_z", "rate.scale_shift", "rate.z_counts")
"""Tensors of a prompt that feed no graph: the code turns them into inputs for one rate."""
Y_COUNTS: Final = "rate.y_counts"
"""Symbol tables fitted to the prompt's own symbols; a prompt without them is coded with the pack's tables."""
EXACT_PREFIX: Final = "h_s_scale."
"""Tensors under this prefix enter the exact scale graph and must be integers."""
EXACT_LIMIT: Final = 1 << 24
"""float32 holds every integer up to 2**24; below it, sums are exact in any order."""

GraphName = Literal["head", "hyper_encoder", "scale", "quantizer", "decoder"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
IDENTIFIER: Final = r"^[a-z][a-z0-9_]{0,31}$"
"""Names of tasks."""
Identifier = Annotated[str, StringConstraints(pattern=IDENTIFIER)]
TENSOR_NAME: Final = re.compile(r"^[A-Za-z][A-Za-z0-9_.]{0,127}$")


class Strict(BaseModel):
    """Base of every manifest section: frozen, no unknown keys, no silent conversions, finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class TensorSpec(Strict):
    """One tensor of a prompt: shape, dtype, and the graphs that take it as an input of the same name."""

    shape: tuple[Annotated[int, Field(ge=1, le=1 << 20)], ...] = Field(min_length=1, max_length=4)
    dtype: Literal["float32", "int32"]
    graphs: tuple[GraphName, ...]


class ExactConv(Strict):
    """Bounds of one convolution of the exact scale branch.

    Its inputs are integers in [-input_limit, input_limit] and its sum is rounded by `shift` bits;
    `addend_limit` bounds the magnitude of whatever else is added to the same sum before rounding.
    """

    input_limit: int = Field(ge=1, lt=EXACT_LIMIT)
    shift: int = Field(ge=0, le=23)
    addend_limit: int = Field(default=0, ge=0, lt=EXACT_LIMIT)
