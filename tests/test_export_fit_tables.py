"""Symbol tables fitted to a task: counts of its own symbols over a Gaussian prior, as integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from training_rig import (
    THIRD_PARTY,
    TINY,
    WholeRun,
    command,
    smooth_photo,
    tiny_parts,
    use_tiny_sizes,
    whole_run,
)

from splitcodec.bitstream import parse
from splitcodec.codec import FeatureDecoder, FeatureEncoder
from splitcodec.entropy import CDF_BITS, SymbolTables, build_gaussian_tables
from splitcodec.errors import InvalidPrompt, InvalidTables
from splitcodec.export.build import prompt_tensors
from splitcodec.export.fit_tables import fit_photos, fitted_tables, integer_counts, with_prior
from splitcodec.packs import InputConvention, load_pack
from splitcodec.prompts import check_tensors
from splitcodec.prompts.schema import Y_COUNTS

__all__ = ["whole_run"]
pytestmark = pytest.mark.filterwarnings(THIRD_PARTY)
CANVAS = InputConvention(height=96, width=128, fit="letterbox", fill=114, trim=True)


def test_without_a_symbol_the_gaussian_stays() -> None:
    tables = build_gaussian_tables()
    counts = with_prior(np.zeros(tables.counts.shape, np.int64), tables)
    share = np.abs(counts - tables.counts) / (1 << CDF_BITS)
    assert share.max() < 1e-4
    assert (counts.sum(axis=1) == 1 << CDF_BITS).all()


def test_many_symbols_outweigh_the_gaussian_and_every_symbol_stays_possible() -> None:
    tables = build_gaussian_tables()
    found = np.zeros(tables.counts.shape, np.int64)
    centre = found.shape[1] // 2
    found[20, centre + 1] = 1_000_000
    counts = with_prior(found, tables)
    assert counts[20, centre + 1] > 0.99 * (1 << CDF_BITS)
    fitted = SymbolTables.of_counts(counts)
    assert (fitted.limit == tables.limit).all()
    reach = int(tables.limit[20])
    assert (counts[20, centre - reach : centre + reach + 1] >= 1).all()


def test_integer_counts_keep_their_sum_and_their_order() -> None:
    counts = integer_counts(np.array([[0.0, 1.0, 5.0, 2.0], [0.25, 0.25, 0.25, 0.25]]))
    assert (counts.sum(axis=1) == 1 << CDF_BITS).all()
    assert counts[0, 0] == 1, "no symbol is impossible"
    assert counts[0, 1] < counts[0, 3] < counts[0, 2]


def test_photos_are_taken_evenly_from_the_whole_collection() -> None:
    photos = [np.full((1, 1, 3), i, np.uint8) for i in range(100)]
    assert [int(photo[0, 0, 0]) for photo in fit_photos(photos, 5)] == [0, 20, 40, 60, 80]
    assert len(fit_photos(photos[:3], 5)) == 3


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        (np.ones((64, 4), np.int32), "odd width"),
        (np.zeros((64, 9), np.int32), "limits must be 1"),
        (np.full((64, 9), 7, np.int32), "y table 0"),
    ],
    ids=["even", "empty", "sum"],
)
def test_counts_that_are_no_tables_are_refused(counts: np.ndarray, says: str) -> None:
    with pytest.raises(InvalidTables, match=says):
        SymbolTables.of_counts(counts)


def test_a_prompt_with_damaged_tables_is_refused_by_name() -> None:
    pack = load_pack("default")
    codec, prompt = pack.manifest.codec, pack.prompt("detect")
    counts = np.array(prompt.tensors[Y_COUNTS])
    counts[5, counts.shape[1] // 2] += 1
    with pytest.raises(InvalidPrompt, match=r"rate\.y_counts: .*y table 5"):
        check_tensors({**prompt.tensors, Y_COUNTS: counts}, codec.prompt_schema, codec.exact_bound, "detect")


def test_fitted_tables_cost_fewer_bits_on_the_symbols_they_were_counted_on() -> None:
    torch.manual_seed(2)
    parts, tables = tiny_parts(4), build_gaussian_tables()
    with torch.no_grad():
        parts.gains.log_gain_y.fill_(3.0)
    arrays = prompt_tensors(parts.codec, parts.prompt, parts.gains, parts.hyper_prior)
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    photos = [smooth_photo(90, 128, seed) for seed in range(3)]
    counts = fitted_tables(parts.codec, tensors, tables, photos, CANVAS)
    fitted = SymbolTables.of_counts(counts)
    assert fitted.levels == tables.levels
    moved = np.abs(counts - tables.counts).max(axis=1) > (1 << CDF_BITS) / 100
    assert moved.any(), "no level was counted"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_export_fits_tables_and_both_sides_use_them(
    whole_run: WholeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_sizes(monkeypatch)
    whole_run.share_graphs(monkeypatch)
    words = ("--codec", whole_run.codec_file, "--prompt", whole_run.task_file, "--teacher", whole_run.teacher)
    words += ("--labels", whole_run.folder / "labels.txt", "--fit", whole_run.photos)
    command("export", *words, "--out", tmp_path / "pack")
    shared, fitted = load_pack(whole_run.pack), load_pack(tmp_path / "pack")
    assert shared.prompt("detect").tables is None, "a pack without tables of its own still loads"
    assert shared.tables_of(shared.prompt("detect")) is shared.tables
    prompt = fitted.prompt("detect")
    assert fitted.tables_of(prompt) is prompt.tables is not fitted.tables
    canvas = smooth_photo(96, 160, 1)
    frame = FeatureEncoder(fitted, "ort-cpu").compress(canvas, prompt, 1.0, (96, 160))
    decoded = FeatureDecoder(fitted, "ort-cpu").decompress(frame.data)
    assert decoded.feature.shape == (1, TINY.feature_channels, 12, 20)
    assert parse(frame.data).y != b""


@pytest.mark.slow
def test_bytes_of_the_shipped_prompt_are_the_entropy_of_its_tables() -> None:
    """Within 1 % and 32 bytes, at every rate point, on a photo it was not fitted to."""
    from splitcodec.codec.exact import ExactScale
    from splitcodec.entropy import decode_hyper, decode_symbols

    data = pytest.importorskip("skimage.data", reason="the photo comes with scikit-image")
    pack = load_pack("default")
    prompt, encoder, scale = pack.prompt("detect"), FeatureEncoder(pack, "ort-cpu"), ExactScale(pack, 1)
    canvas = np.ascontiguousarray(data.coffee()[:384, :576])
    tables, gaussian = pack.tables_of(prompt), pack.tables
    own, other = 0.0, 0.0
    for rate in range(4):
        stream = parse(encoder.compress(canvas, prompt, float(rate), (384, 576)).data)
        at = prompt.rate_inputs(256 * rate)
        z = decode_hyper(stream.z, (pack.manifest.codec.hyper_channels, 6, 9), at.z_counts)
        index = scale.run(z[None].astype(np.float32), at.rate_shift, prompt, 384, 576)[0]
        y = decode_symbols(stream.y, index, tables)
        bits = _bits(tables, index, y)
        assert abs(len(stream.y) - bits / 8) <= 0.01 * bits / 8 + 32
        own, other = own + bits, other + _bits(gaussian, index, y)
    assert own < other, "fitted tables cost fewer bits than the Gaussian ones"


def _bits(tables: SymbolTables, index: np.ndarray, y: np.ndarray) -> float:
    counts = tables.counts[index, y + tables.counts.shape[1] // 2]
    return float(-np.log2(counts / (1 << CDF_BITS)).sum())
