"""Inference engines that are not there or fail."""

from splitcodec.errors.base import SplitcodecError


class RuntimeUnavailable(SplitcodecError):
    """The inference engine asked for cannot run here; fix the installation: see `splitcodec doctor`."""


class GraphFailed(SplitcodecError):
    """An inference engine refused a graph or its inputs; the pack, the engine or the caller is at fault."""
