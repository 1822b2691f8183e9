"""Several processes training one network: torchrun starts them, gradients are averaged, one process writes.

    torchrun --nproc-per-node 8 -m splitcodec.cli train codec --recipe base --data openimages/ ...

Each process draws its own crops, so a step sees batch times processes of them. Networks are the same on all
from the first step on: they are copied from the first process, and all take the same mean gradient. All
processes must see the run's folder.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist

LEAVE_TIMEOUT = timedelta(seconds=20)


@dataclass(frozen=True)
class Ranks:
    """This process among all: rank 0..count-1. With one process everything here does nothing."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """True for the process that writes files and shows progress."""
        return self.rank == 0

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in one message per type of number."""
        for group in self._by_type(tensors):
            flat = torch.cat([tensor.flatten() for tensor in group])
            dist.all_reduce(flat)
            flat /= self.count
            _spread(flat, group)

    @torch.no_grad()
    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by the first process's."""
        for group in self._by_type(tensors):
            flat = torch.cat([tensor.flatten() for tensor in group])
            dist.broadcast(flat, src=0)
            _spread(flat, group)

    def first_says(self, value: float, device: torch.device) -> float:
        """The first process's value on all of them; also waits until all have come here."""
        if self.count == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device=device)
        dist.broadcast(told, src=0)
        return float(told)

    def _by_type(self, tensors: Sequence[Tensor]) -> list[list[Tensor]]:
        if self.count == 1:
            return []
        groups: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            groups.setdefault(tensor.dtype, []).append(tensor)
        return list(groups.values())


def _spread(flat: Tensor, group: list[Tensor]) -> None:
    for tensor, part in zip(group, flat.split([tensor.numel() for tensor in group]), strict=True):
        tensor.copy_(part.view(tensor.shape))


def join_ranks() -> Ranks:
    """This process's place; joins the others first if torchrun started it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Ranks()
    if not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(local_rank())
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(_leave)
    return Ranks(dist.get_rank(), dist.get_world_size())


def _leave() -> None:
    """Leave together: where one process closes its connections early, Gloo's threads abort another one.

    The wait is bounded: a process that failed never comes.
    """
    if dist.get_backend() == "gloo":
        with suppress(RuntimeError):
            dist.monitored_barrier(timeout=LEAVE_TIMEOUT)
    dist.destroy_process_group()


def local_rank() -> int:
    """Which of its machine's processes this is, and so which GPU it takes."""
    return int(os.environ.get("LOCAL_RANK", "0"))
