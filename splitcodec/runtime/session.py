"""The seam between the codec and whatever runs its graphs: named numpy arrays in, named numpy arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from splitcodec.errors import GraphFailed

Array = NDArray[Any]
Float32 = NDArray[np.float32]
MAX_THREADS: Final = 256


@runtime_checkable
class Session(Protocol):
    """A loaded graph. `run` may be called from several threads."""

    @property
    def name(self) -> str:
        """Name of the graph, for messages and reports."""

    @property
    def engine(self) -> str:
        """What runs it: onnxruntime-cpu, onnxruntime-cuda, onnxruntime-tensorrt, tensorrt or tensorrt_rtx."""

    @property
    def placement(self) -> Mapping[str, int]:
        """How many operators each execution provider runs; empty where the engine does not tell."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """Every input the graph takes, prompt tensors included."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """Every output the graph gives."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the graph on exactly its inputs; raises GraphFailed for any other set of inputs or a failed
        run.

        A read-only input (`flags.writeable` false) is taken to never change: an engine with its own memory
        copies it there once and finds it again by identity.
        """


def check_feed(name: str, expected: frozenset[str], inputs: Mapping[str, Array]) -> None:
    """Raises GraphFailed unless exactly the expected inputs are fed.

    ONNX Runtime fills inputs that have defaults from the graph itself, so a partial feed would mix two sets
    of weights.
    """
    if inputs.keys() != expected:
        missing, extra = sorted(expected - inputs.keys()), sorted(inputs.keys() - expected)
        raise GraphFailed(
            f"graph {name} lacks inputs {missing} and was given unknown {extra}; feed exactly its inputs"
        )
