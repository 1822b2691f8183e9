"""Whose fault it is when graphs failed on a batch: one frame's, refused for good, or the engine's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from splitcodec.errors import GraphFailed, SplitcodecError, UndecodableFrame

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Output = TypeVar("Output")


def answer_each(
    run: Callable[[Sequence[Item]], Sequence[Output | SplitcodecError]],
    items: Sequence[Item],
    probe: Callable[[Item], object],
) -> list[Output | SplitcodecError]:
    """An output or its own error for each item, in order, from `run`, which may fail for all at once.

    Items that failed together run again alone. One that fails alone too is an UndecodableFrame if
    `probe(item)` then shows, by not raising, that the graphs run without it. If it raises, the engine is ill:
    the item's error stays GraphFailed, which settles nothing.
    """
    outcomes = _attempt(run, items)
    suspects = [at for at, outcome in enumerate(outcomes) if _is_suspect(outcome, outcomes)]
    for at in suspects:
        (outcomes[at],) = _attempt(run, [items[at]])
    for at in suspects:
        failure = outcomes[at]
        if isinstance(failure, GraphFailed) and _runs(probe, items[at]):
            log.error("the graphs fail on one frame and run without it", exc_info=failure)
            outcomes[at] = UndecodableFrame(
                "the graphs failed twice on this frame, the second time alone, and run without it; do not "
                "send it again, and report it with the cloud's log and `splitcodec doctor`"
            )
    return outcomes


def _attempt(
    run: Callable[[Sequence[Item]], Sequence[Output | SplitcodecError]], items: Sequence[Item]
) -> list[Output | SplitcodecError]:
    """What `run` gives, or what it raises, as the answer of every item."""
    try:
        return list(run(items))
    except SplitcodecError as error:
        return [error] * len(items)
    except BaseException as error:  # the panic of an extension is no Exception
        failure = GraphFailed(f"a run of {len(items)} frames failed: {error!r}")
        failure.__cause__ = error
        return [failure] * len(items)


def _is_suspect(outcome: object, outcomes: Sequence[object]) -> bool:
    """Whether an outcome is a failure of the graphs, or an error that several items share."""
    if isinstance(outcome, GraphFailed):
        return True
    return isinstance(outcome, SplitcodecError) and sum(outcome is other for other in outcomes) > 1


def _runs(probe: Callable[[Item], object], item: Item) -> bool:
    try:
        probe(item)
    except BaseException:
        log.exception("the graphs do not run at all; no frame is blamed for it")
        return False
    return True
