"""The short form of `make fuzz`: the same targets, a seeded mutator, a bound on the memory of one input."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from fuzz.long_run import main
from fuzz.mutate import mutations
from fuzz.targets import TARGETS, Target

INPUTS_PER_SHARE = 30
MIN_INPUTS = 60
MAX_INPUT_MIB = 32.0  # what one input may cost a parser, above what it holds all the time


@pytest.fixture
def allocations() -> Iterator[None]:
    tracemalloc.start(1)
    yield
    tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_hostile_bytes_raise_only_what_the_parser_promises(target: Target, allocations: None) -> None:
    one = target.build()
    seeds = [data[: target.max_bytes] for data in target.seeds()]
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    for data in mutations(seeds, max(MIN_INPUTS, round(target.share * INPUTS_PER_SHARE)), target.max_bytes):
        one(data)
    peak_mib = (tracemalloc.get_traced_memory()[1] - before) / 2**20
    assert peak_mib < MAX_INPUT_MIB


def test_mutations_are_the_same_on_every_machine() -> None:
    seeds = [b"abcdef" * 5, b"12345678"]
    first, again = list(mutations(seeds, 50, 64)), list(mutations(seeds, 50, 64))
    assert first == again
    assert first[:2] == seeds
    assert len(set(first)) > 40
    assert all(len(data) <= 64 for data in first)


def test_every_input_of_the_long_run_has_a_target() -> None:
    assert sum(target.share for target in TARGETS) == pytest.approx(100, abs=0.5)
    assert len({target.name for target in TARGETS}) == len(TARGETS)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed: pip install '.[fuzz]'")
def test_long_run_counts_its_inputs_and_notices_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Path(__file__).resolve().parent
    monkeypatch.setenv("PYTHONPATH", f"{home}:{home.parent}")
    monkeypatch.setattr(sys, "argv", ["fuzz", "--only=entropy", "--inputs=2000", f"--work={tmp_path}"])
    assert main() == 0
    assert "2000 inputs, 0 findings" in capsys.readouterr().out
    broken = tmp_path / "broken"
    (broken / "fuzz").mkdir(parents=True)
    for source in (home / "fuzz").glob("*.py"):
        text = source.read_text().replace("except CorruptBitstream:", "except InvalidTables:")
        (broken / "fuzz" / source.name).write_text(text)
    monkeypatch.setenv("PYTHONPATH", f"{broken}:{home}:{home.parent}")
    assert main() == 1
    assert list((tmp_path / "crashes").iterdir())
