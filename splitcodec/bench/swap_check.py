"""Was any frame mixed, lost, doubled or late? Judged from what was written down, not by what services say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import grpc
import numpy as np

from splitcodec.bench.swap_run import FrameAnswer, Swap, SwapRun
from splitcodec.wire.options import client_options
from splitcodec.wire.v1 import results_pb2, results_pb2_grpc

PAGE = 1000


@dataclass(frozen=True)
class Faults:
    """Frames by what was wrong with them; each is zero in a sound run.

    differing: the answer is not, to the last bit, that of the same frame run alone; wrong_prompt: its
    prompt was not one its camera used between its start and its end; lost, doubled: in the cloud's store;
    out_of_order: a camera's numbers did not rise.
    """

    differing: int
    wrong_prompt: int
    lost: int
    doubled: int
    out_of_order: int

    @property
    def none(self) -> bool:
        """Nothing was wrong."""
        return not any((self.differing, self.wrong_prompt, self.lost, self.doubled, self.out_of_order))


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds."""

    p50_ms: float
    p99_ms: float
    max_ms: float


def faults(run: SwapRun, alone: Mapping[tuple[int, str], str], stored: Mapping[str, Sequence[int]]) -> Faults:
    """Judge a run; alone: fingerprints by photo and prompt; stored: numbers the cloud keeps, by camera."""
    differing = wrong_prompt = lost = doubled = out_of_order = 0
    for camera, answers in run.answers.items():
        seqs, kept = [one.seq for one in answers], stored.get(camera, ())
        differing += sum(alone.get((one.photo, one.prompt)) != one.fingerprint for one in answers)
        wrong_prompt += sum(one.prompt not in possible_prompts(one, run.swaps[camera]) for one in answers)
        lost += len(set(seqs) - set(kept))
        doubled += len(kept) - len(set(kept)) + len(seqs) - len(set(seqs))
        out_of_order += sum(after <= before for before, after in pairwise(seqs))
    return Faults(differing, wrong_prompt, lost, doubled, out_of_order)


def possible_prompts(answer: FrameAnswer, swaps: Sequence[Swap]) -> set[str]:
    """The prompt in use when a frame began, and those of swaps that were under way or began during it."""
    before = [swap for swap in swaps if swap.ended <= answer.started]
    during = {swap.prompt for swap in swaps if swap.ended > answer.started and swap.started < answer.ended}
    return during | ({before[-1].prompt} if before else set())


def stored_numbers(target: str, device: str, cameras: Iterable[str]) -> dict[str, list[int]]:
    """Numbers of every result that the cloud keeps, by camera."""
    found: dict[str, list[int]] = {}
    with grpc.insecure_channel(target, options=client_options(target)) as channel:
        results = results_pb2_grpc.ResultsStub(channel)  # type: ignore[no-untyped-call]
        for camera in cameras:
            found[camera], token = [], None
            while token != "":
                request = results_pb2.ListResultsRequest(
                    device=device, camera=camera, page_size=PAGE, page_token=token or ""
                )
                page = results.List(request, timeout=60)
                found[camera] += [result.key.seq for result in page.results]
                token = page.next_page_token
    return found


def percentiles(seconds: Sequence[float]) -> Percentiles:
    """Of at least one duration."""
    p50, p99 = np.quantile(np.asarray(seconds), [0.5, 0.99]) * 1000
    return Percentiles(round(float(p50), 3), round(float(p99), 3), round(1000 * max(seconds), 3))


def drift(seconds: Sequence[float]) -> float:
    """Median of the last quarter against that of the second one, minus 1: 0.02 is 2 % slower at the end."""
    quarter = len(seconds) // 4
    early, late = seconds[quarter : 2 * quarter] or seconds, seconds[-quarter:] or seconds
    return float(np.median(late) / np.median(early)) - 1
