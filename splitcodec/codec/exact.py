"""The exact branch at run time: z symbols -> sigma indexes, the same integers on every machine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitcodec.packs import Pack
from splitcodec.packs.check import to_sigma_index, verify_sigma_check
from splitcodec.prompts import Prompt
from splitcodec.prompts.schema import GraphName
from splitcodec.runtime import Session, open_session

Array = NDArray[Any]


class ExactScale:
    """The scale graph of a pack, on ONNX Runtime's CPU whatever engine runs the other graphs."""

    def __init__(self, pack: Pack, threads: int) -> None:
        """Opens the graph; raises RuntimeUnavailable without ONNX Runtime."""
        self.session = open_graph(pack, "scale", "ort-cpu", threads)
        self._verified: set[str] = set()

    def verify(self, prompt: Prompt) -> None:
        """Checks, once per prompt, that this machine computes the pack's indexes.

        Raises SigmaIndexMismatch.
        """
        if prompt.digest not in self._verified:
            verify_sigma_check(self.session, prompt)
            self._verified.add(prompt.digest)

    def run(self, z: Array, rate_shift: Array, prompt: Prompt, height: int, width: int) -> NDArray[np.uint8]:
        """Sigma indexes of a network size.

        z float32 [N, Cz, ceil(height/64), ceil(width/64)], rate_shift float32 [N, Cy, 1, 1], both
        integer-valued -> uint8 [N, Cy, height/16, width/16] in 0..63. Raises SigmaIndexMismatch if the graph
        is not exact.
        """
        self.verify(prompt)
        feed = {"z_symbols": z, "rate_shift": rate_shift, **prompt.graph_inputs("scale")}
        index = self.session.run(feed)["sigma_index"][:, :, : height // 16, : width // 16]
        return to_sigma_index(np.ascontiguousarray(index))


def open_graph(pack: Pack, name: GraphName, engine: str, threads: int) -> Session:
    """A session for a codec graph of a pack; the scale graph always opens exact, on ONNX Runtime's CPU."""
    return open_session(pack.graph_bytes(name), engine, threads, name=name, exact=name == "scale")
