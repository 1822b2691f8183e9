"""The training loop: schedule, averages, resume, and errors instead of silent damage."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from splitcodec.errors import TrainingError
from splitcodec.models.sizes import SIZES
from splitcodec.training import loop
from splitcodec.training.checkpoint import TrainingProgress
from splitcodec.training.codec_run import per_point, rate_plan
from splitcodec.training.loop import Run, Schedule, StepResult, Trainer
from splitcodec.training.origin import Origin, origin_of
from splitcodec.training.recipes import STAGE1, STAGE2, Recipe
from splitcodec.training.teacher import TeacherSource, TorchTeacher

CPU = torch.device("cpu")
RECIPES = [*STAGE1.values(), *STAGE2.values()]


def run_in(folder: Path, steps: int = 8, **settings: object) -> Run:
    return Run(folder, steps, batch=2, **settings)


def test_learning_rate_starts_low_peaks_and_ends_at_two_percent() -> None:
    assert Schedule.rate(0.0) == pytest.approx(0.05)
    assert Schedule.rate(0.01) == pytest.approx(0.02 + 0.98 * 0.5 * (1 + math.cos(0.01 * math.pi)))
    assert Schedule.rate(0.5) == pytest.approx(0.51)
    assert Schedule.rate(1.0) == pytest.approx(0.02)
    falling = [Schedule.rate(i / 100) for i in range(1, 101)]
    assert falling == sorted(falling, reverse=True)


def test_rate_term_is_warmed_up_from_two_percent_to_full(tmp_path: Path) -> None:
    schedule = Schedule(run_in(tmp_path, warm_up_share=0.4), TrainingProgress(0, 0.0))
    assert schedule.rate_term(0.0) == pytest.approx(0.02)
    assert schedule.rate_term(0.2) == pytest.approx(0.51)
    assert [schedule.rate_term(p) for p in (0.4, 0.7, 1.0)] == pytest.approx([1.0, 1.0, 1.0])
    other = Schedule(run_in(tmp_path, warm_up_share=0.4, warm_up_from=0.1), TrainingProgress(0, 0.0))
    assert [other.rate_term(p) for p in (0.0, 0.2, 1.0)] == pytest.approx([0.1, 0.55, 1.0])


def test_progress_is_the_larger_share_of_steps_and_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    schedule = Schedule(run_in(tmp_path, steps=100, max_minutes=10.0), TrainingProgress(20, 120.0))
    assert schedule.progress(20) == pytest.approx(0.2)  # 2 of 10 minutes, 20 of 100 steps
    now[0] += 180.0
    assert schedule.seconds == 300.0
    assert schedule.progress(30) == pytest.approx(0.5)
    assert schedule.progress(80) == pytest.approx(0.8)
    now[0] += 1e4
    assert schedule.progress(81) == 1.0


class _Toy:
    """A small regression whose batch of step i is a pure function of i, like a data set read in order."""

    def __init__(self, folder: Path, steps: int = 8, first: int = 0, **settings: object) -> None:
        torch.manual_seed(7)
        self.net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
        self.never_used = nn.Linear(2, 2)
        self.modules = {"unused": self.never_used, "net": self.net}
        self.step, self.terms = first, []
        groups = [{"params": [p for m in self.modules.values() for p in m.parameters()], "lr": 0.05}]
        self.trainer = Trainer(run_in(folder, steps, **settings), self.modules, groups)

    def batch(self) -> tuple[Tensor, Tensor]:
        noise = torch.Generator().manual_seed(self.step)
        x = torch.randn(16, 3, generator=noise)
        return x, x.sum(dim=1, keepdim=True).sin()

    def __call__(self, rate_term: float, progress: float) -> StepResult:
        x, y = self.batch()
        self.step += 1
        self.terms.append(rate_term)
        loss = (self.net(x) - y).square().mean()
        return StepResult(loss, {"error": [float(loss.detach())]})


def stopping(step_fn: Callable[[float], StepResult], after: int) -> Callable[[float], StepResult]:
    """Like step_fn, but the process is interrupted when step `after` begins."""
    left = [after]

    def stopped(rate_term: float, progress: float) -> StepResult:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return step_fn(rate_term, progress)

    return stopped


@pytest.mark.slow
def test_interrupted_and_resumed_run_equals_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given the same batches: weights, moments, average, schedule and step count all come back."""
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0)  # after every step
    straight = _Toy(tmp_path / "straight")
    straight.trainer.train(straight)
    broken = _Toy(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        broken.trainer.train(stopping(broken, after=3))
    resumed = _Toy(tmp_path / "broken", first=3)
    resumed.trainer.train(resumed)
    assert broken.terms + resumed.terms == pytest.approx(straight.terms)
    for name in ("final.safetensors", "checkpoint.safetensors"):
        want, found = (load_file(str(tmp_path / run / name)) for run in ("straight", "broken"))
        assert want.keys() == found.keys()
        for key, value in want.items():
            assert value.equal(found[key]), key
    assert json.loads((tmp_path / "broken" / "run.json").read_text())["steps"] == 8


@pytest.mark.slow
def test_run_learns_logs_and_leaves_the_average(tmp_path: Path) -> None:
    toy = _Toy(tmp_path, steps=120)
    before = toy.net[0].weight.clone()
    toy.trainer.train(toy)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 50, 100]
    assert lines[-1]["error"][0] < lines[0]["error"][0] / 3
    final, last = (load_file(str(tmp_path / f"{name}.safetensors")) for name in ("final", "checkpoint"))
    assert final["net/0.weight"].equal(toy.net[0].weight)
    assert not final["net/0.weight"].equal(last["net/0.weight"]), "the average, not the last step's weights"
    assert final["net/0.weight"].equal(last["average/2"])
    assert not final["net/0.weight"].equal(before)
    assert [key for key in final if not key.startswith(("net/", "unused/"))] == []


def test_parameter_without_a_gradient_does_not_shift_the_moments(tmp_path: Path) -> None:
    toy = _Toy(tmp_path, steps=2)
    toy.trainer.train(toy)
    saved = load_file(str(tmp_path / "checkpoint.safetensors"))
    assert sorted(key for key in saved if key.startswith("adam/")) == [
        f"adam/{i}/{part}" for i in range(2, 6) for part in ("mean", "square")
    ]
    assert saved["adam/2/mean"].shape == toy.net[0].weight.shape


def test_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0)
    toy = _Toy(tmp_path)

    def exploding(rate_term: float, progress: float) -> StepResult:
        result = toy(rate_term, progress)
        return result if toy.step < 3 else StepResult(result.loss * math.inf, result.log)

    with pytest.raises(
        TrainingError, match=r"the loss of step 2 is inf; .* lower the recipe's learning rate"
    ):
        toy.trainer.train(exploding)
    saved = load_file(str(tmp_path / "checkpoint.safetensors"))
    assert all(value.isfinite().all() for value in saved.values())


def origin(recipe: Recipe = STAGE1["base2"], start: Path | None = None) -> Origin:
    return origin_of(recipe, start)


def test_a_run_of_another_recipe_is_not_resumed(tmp_path: Path) -> None:
    toy = _Toy(tmp_path, steps=2, origin=origin())
    toy.trainer.train(toy)
    weights = (tmp_path / "checkpoint.safetensors").read_bytes()
    (tmp_path / "start.safetensors").write_bytes(b"other weights")
    others = {
        r"recipe base2 \(.{12}\), seed 7, begun with random weights": replace(STAGE1["base2"], seed=7),
        r"recipe base2 \(.{12}\), seed 42, begun with random": replace(STAGE1["base2"], learning_rate=1e-4),
        r"recipe base2-longer \(.{12}\), seed \d+, begun with random weights": STAGE1["base2-longer"],
    }
    is_of = r"is of recipe base2 \(.{12}\), seed 42, begun with random weights, this run of "
    for said, other in others.items():
        for anyway in (False, True):
            with pytest.raises(TrainingError, match=is_of + said):
                _Toy(tmp_path, origin=origin(other), resume_anyway=anyway)
    with pytest.raises(TrainingError, match=is_of + r"recipe base2 .*begun with the weights [0-9a-f]{12};"):
        _Toy(tmp_path, origin=origin(start=tmp_path / "start.safetensors"))
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == weights
    _Toy(tmp_path, origin=origin())


def test_a_run_of_another_teacher_is_not_resumed(tmp_path: Path) -> None:
    (one := tmp_path / "one.onnx").write_bytes(b"a teacher")
    (moved := tmp_path / "moved.onnx").write_bytes(b"a teacher")
    (other := tmp_path / "other.onnx").write_bytes(b"another")
    toy = _Toy(tmp_path, steps=2, origin=taught(one))
    toy.trainer.train(toy)
    _Toy(tmp_path, origin=taught(moved))
    own = TorchTeacher("module:function", "split", "detect")
    for teachers in ([other], [one, other], [own]):
        with pytest.raises(
            TrainingError, match=r"teachers [0-9a-f]{12}, this run of .* teachers [0-9a-f]{12};"
        ):
            _Toy(tmp_path, origin=taught(*teachers))
    with pytest.raises(TrainingError, match="teachers"):
        _Toy(tmp_path, origin=origin_of(STAGE1["base2"], None, [one], "pixels"))
    with pytest.raises(TrainingError, match=r"nowhere.onnx cannot be read .*; check the path"):
        taught(tmp_path / "nowhere.onnx")


def test_a_checkpoint_that_does_not_say_its_teachers_is_resumed(tmp_path: Path) -> None:
    (one := tmp_path / "one.onnx").write_bytes(b"a teacher")
    toy = _Toy(tmp_path, steps=2, origin=origin())
    toy.trainer.train(toy)
    _Toy(tmp_path, origin=taught(one))


def taught(*teachers: TeacherSource) -> Origin:
    return origin_of(STAGE1["base2"], None, teachers, "feature")


def test_a_checkpoint_that_does_not_say_its_recipe_is_resumed_when_told_to(tmp_path: Path) -> None:
    toy = _Toy(tmp_path, steps=2)
    toy.trainer.train(toy)
    with pytest.raises(TrainingError, match=r"does not say what it was trained by.* or --resume-anyway"):
        _Toy(tmp_path, origin=origin())
    again = _Toy(tmp_path, origin=origin(), resume_anyway=True)
    again.trainer.train(again)
    _Toy(tmp_path, origin=origin())  # from now on it says so


def test_a_recipe_field_added_later_changes_no_origin() -> None:
    @dataclass(frozen=True)
    class Later(Recipe):
        added_later: float = 0.5

    own = STAGE1["base2"]
    later = Later(**{field.name: getattr(own, field.name) for field in fields(own)})
    assert origin(later) == origin()
    assert origin(replace(later, added_later=0.6)) != origin()


def test_every_batch_holds_each_rate_point_lowest_first() -> None:
    points, lambdas = rate_plan(STAGE1["base2"], CPU)
    assert points.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert lambdas.tolist() == pytest.approx([6.0, 6.0, 2.2, 2.2, 0.8, 0.8, 0.3, 0.3])
    with pytest.raises(TrainingError, match="batch 6 is not a multiple of the 4 rate points of recipe base2"):
        rate_plan(replace(STAGE1["base2"], batch=6), CPU)


def test_log_shows_the_mean_of_each_rate_point() -> None:
    points = torch.tensor([0, 0, 1, 1])
    assert per_point(torch.tensor([1.0, 2.0, 3.0, 5.0]), points) == [1.5, 4.0]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_recipe_is_one_that_can_run(recipe: Recipe) -> None:
    assert recipe.sizes in SIZES
    assert len(recipe.lambdas) == SIZES[recipe.sizes].rate_points
    assert list(recipe.lambdas) == sorted(recipe.lambdas, reverse=True), "rate point 0 is the smallest rate"
    assert recipe.batch % len(recipe.lambdas) == 0
    assert recipe.crop % 64 == 0
    assert 0 < recipe.warm_up_share <= 1
    assert recipe.name in {**STAGE1, **STAGE2}
