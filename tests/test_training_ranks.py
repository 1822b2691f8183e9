"""Two processes under torchrun train what one process with both batches would have trained."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from splitcodec.training.cost import StepClock
from splitcodec.training.loop import Run, StepResult, Trainer
from splitcodec.training.ranks import Ranks, join_ranks

STEPS = 4
SCRIPT = """
import os, sys
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
from test_training_ranks import train_toy
from splitcodec.training.ranks import join_ranks
ranks = join_ranks()
net, checks = train_toy(Path(sys.argv[1]), [ranks.rank], seed=ranks.rank)
assert ranks.count == 2
torch.save((net.state_dict(), checks), Path(sys.argv[1]) / f"rank{{ranks.rank}}.pt")
"""


def batch(rank: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    noise = torch.Generator().manual_seed(100 * rank + step)
    x = torch.randn(8, 3, generator=noise)
    return x, x.sum(dim=1, keepdim=True).sin()


def train_toy(folder: Path, ranks: list[int], seed: int = 0) -> tuple[nn.Module, list[float]]:
    """A small regression on these ranks' batches; checked after the second step."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    if seed == 0:
        torch.save(net.state_dict(), folder / "start.pt")
    steps = iter(range(STEPS))
    checks: list[float] = []

    def step(rate_term: float, progress: float) -> StepResult:
        i = next(steps)
        x, y = (torch.cat(parts) for parts in zip(*(batch(rank, i) for rank in ranks), strict=True))
        return StepResult((net(x) - y).square().mean(), {})

    def check() -> float:
        checks.append(float(ranks[0]) - 10.0 * len(checks))  # differs between ranks, falls
        return checks[-1]

    run = Run(folder / "run", STEPS, 8, epoch=2)
    Trainer(run, {"net": net}, [{"params": list(net.parameters()), "lr": 0.05}]).train(step, check)
    return net, checks


@pytest.mark.slow
def test_two_processes_equal_one_with_both_batches(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    words += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", str(script), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    (tmp_path / "one").mkdir()
    alone, _ = train_toy(tmp_path / "one", [0, 1])
    want = alone.state_dict()
    for rank in range(2):
        state, checks = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        assert len(checks) == 2, "both went on after each epoch, though rank 1's own loss is higher"
        for name, value in state.items():
            assert torch.allclose(value, want[name], atol=1e-6), name
    stored = load_file(str(tmp_path / "run/final.safetensors"))
    assert torch.allclose(stored["net/0.weight"], want["0.weight"], atol=1e-6)
    summary = json.loads((tmp_path / "run/run.json").read_text())
    assert (summary["batch"], summary["machine"][:4]) == (16, "2 x ")


def test_run_ends_when_the_loss_on_held_out_pictures_stops_falling(tmp_path: Path) -> None:
    net = nn.Linear(3, 1)
    found = iter([3.0, 2.0, 2.5, 1.0])

    def step(rate_term: float, progress: float) -> StepResult:
        return StepResult(net(torch.ones(1, 3)).square().mean(), {})

    run = Run(tmp_path, steps=40, batch=1, epoch=5)
    trainer = Trainer(run, {"net": net}, [{"params": list(net.parameters()), "lr": 0.01}])
    trainer.train(step, lambda: next(found))
    assert json.loads((tmp_path / "run.json").read_text())["steps"] == 15
    assert next(found) == 1.0


def test_one_process_is_alone() -> None:
    assert join_ranks() == Ranks(0, 1)
    tensor = torch.ones(2)
    Ranks().average([tensor])
    Ranks().copy_first([tensor])
    assert tensor.tolist() == [1.0, 1.0]
    assert Ranks().first_says(2.5, torch.device("cpu")) == 2.5


def test_cost_is_the_median_after_the_first_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("splitcodec.training.cost.time.monotonic", lambda: now[0])
    clock = StepClock(_last=0.0)
    assert clock.cost() is None
    for seconds in (50.0, 9.0, 1.0, 3.0, 2.0):
        now[0] += seconds
        clock.tick()
    cost = clock.cost()
    assert cost is not None
    assert cost.seconds == 2.0
    assert cost.peak_bytes > 50 << 20
    assert str(cost).startswith("2.000 s and ")
