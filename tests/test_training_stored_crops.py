"""Crops made once: the same file by seed, the same batches by seed, and no damaged file is read."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training_rig import THIRD_PARTY, command, use_tiny_sizes, write_photos, write_teacher
from typer.testing import CliRunner

from splitcodec.cli import app
from splitcodec.errors import DatasetError
from splitcodec.training.crops import new_crops
from splitcodec.training.recipes import STAGE1, Recipe
from splitcodec.training.stored_crops import StoredCrops, map_crops, write_crops

TINY_RECIPE = replace(STAGE1["base2"], crop=32, batch=4)


def rising(count: int, size: int = 32, first: int = 0) -> np.ndarray:
    """Crop k has value first + k in its left half and 100 more in its right half."""
    crops = np.zeros((count, size, size, 3), np.uint8)
    crops += np.arange(first, first + count, dtype=np.uint8)[:, None, None, None]
    crops[:, :, size // 2 :] += 100
    return crops


def stored(path: Path, count: int = 5, size: int = 32, first: int = 0) -> Path:
    write_crops(path, iter(rising(count, size, first)), count, size)
    return path


def test_file_is_a_plain_array_mapped_read_only(tmp_path: Path) -> None:
    path = stored(tmp_path / "crops.npy")
    assert np.array_equal(np.load(path, allow_pickle=False), rising(5)), "any numpy reads it"
    crops = map_crops(path)
    assert isinstance(crops, np.memmap)
    assert np.array_equal(crops, rising(5))
    assert not crops.flags.writeable
    assert list(tmp_path.iterdir()) == [path], "no draft is left"


def test_command_makes_the_same_file_by_seed_with_the_recipes_or_ones_own_settings(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    words = ("train", "crops", "--data", photos, "--data", photos, "--count", "6", "--size", "48")
    files = [tmp_path / f"{name}.npy" for name in ("a", "same", "seed", "mosaic", "recipe")]
    command(*words, "--out", files[0])
    assert "6 crops of 48 pixels" in command(*words, "--out", files[1])
    command(*words, "--out", files[2], "--seed", "1")
    command(*words, "--out", files[3], "--mosaic-share", "1", "--scales", "0.5", "1.2")
    command(*words, "--out", files[4], "--recipe", "classify2")
    first, same, *others = (np.array(map_crops(file)) for file in files)
    assert first.shape == (6, 48, 48, 3)
    assert np.array_equal(first, same)
    assert not any(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize(
    "words",
    ["--scales 1.2 0.5", "--scales 0 0.5", "--mosaic-share 1.5", "--size 8", "--recipe nobody", "--count 0"],
)
def test_options_out_of_bounds_are_refused(words: str, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 1)
    where = ["--data", str(photos), "--count", "1", "--out", str(tmp_path / "a.npy")]
    result = CliRunner().invoke(app, ["train", "crops", *where, *words.split()])
    assert result.exit_code == 2
    assert words.split()[0] in result.output
    assert not (tmp_path / "a.npy").exists()


def test_batches_are_random_rows_randomly_mirrored_the_same_every_time(tmp_path: Path) -> None:
    paths = [stored(tmp_path / "a.npy"), stored(tmp_path / "b.npy", count=3, first=50)]
    source, again = StoredCrops(paths, seed=7), StoredCrops(paths, seed=7)
    assert len(source) == 8
    batches = [source.batch(16) for _ in range(4)]
    assert all(np.array_equal(batch, again.batch(16)) for batch in batches)
    assert not np.array_equal(batches[0], StoredCrops(paths, seed=8).batch(16))
    drawn = np.concatenate(batches)
    left, right = drawn[:, 0, 0, 0].astype(int), drawn[:, 0, -1, 0].astype(int)
    assert set(right - left) == {100, -100}, "some mirrored, some not"
    assert set(np.minimum(left, right)) == {0, 1, 2, 3, 4, 50, 51, 52}, "rows of both files"


def test_file_named_twice_counts_twice(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.npy")
    assert len(StoredCrops([path, path], seed=0)) == 10


def save(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def with_header(path: Path, shape: tuple[int, ...]) -> Path:
    """A header that claims another shape than the bytes behind it have."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.write(bytes(32 * 32 * 3))
    return path


def test_wrong_type_is_refused(tmp_path: Path) -> None:
    for name, array in (
        ("float", rising(2).astype(np.float32)),
        ("signed", rising(2).astype(np.int8)),
        ("fortran", np.asfortranarray(rising(2))),
        ("object", np.array([object()], dtype=object)),
    ):
        path = tmp_path / f"{name}.npy"
        np.save(path, array, allow_pickle=True)
        with pytest.raises(DatasetError, match=r"crops are uint8 in C order: make it again with"):
            map_crops(path)


@pytest.mark.parametrize(
    "shape", [(0, 32, 32, 3), (2, 32, 16, 3), (2, 32, 32), (2, 3, 32, 32), (), (1, 0, 0, 3)]
)
def test_wrong_shape_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has the shape .*; crops are \(N, S, S, 3\) with N and S >= 1"):
        map_crops(save(tmp_path / "a.npy", np.zeros(shape, np.uint8)))


@pytest.mark.parametrize("shape", [(2, 32, 32, 3), (1, 16, 16, 3), (10**12, 10**6, 10**6, 3)])
def test_header_that_promises_other_bytes_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"bytes where its header promises \d+; make it again"):
        map_crops(with_header(tmp_path / "a.npy", shape))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUM",
        b"PK\x03\x04 a zip archive",
        b"\x80\x04 a pickle",
        b"\x93NUMPY\x02\x00" + bytes(200),
        b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '|u1'" + b" " * 200,
        b"\x93NUMPY\x01\x00\x76\x00" + b"__import__('os')" + b" " * 200,
    ],
)
def test_damaged_or_empty_file_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(DatasetError, match=r"holds no stored crops: .*make it again with"):
        map_crops(tmp_path / "a.npy")
    with pytest.raises(DatasetError, match="holds no stored crops"):
        map_crops(tmp_path / "absent.npy")


def test_file_that_cannot_be_whole_does_not_appear(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with pytest.raises(DatasetError, match="3 crops were made where 4 were announced"):
        write_crops(path, iter(rising(3)), 4, 32)
    with pytest.raises(DatasetError, match=r"crop 0 is uint8 \(16, 16, 3\); this file takes uint8"):
        write_crops(path, iter(rising(3, 16)), 3, 32)
    with pytest.raises(DatasetError, match=r"stored in a \.npy file, not in a\.bin"):
        write_crops(tmp_path / "a.bin", iter(rising(3)), 3, 32)
    with pytest.raises(DatasetError, match="cannot be written"):
        write_crops(tmp_path / "absent" / "a.npy", iter(rising(3)), 3, 32)
    assert not list(tmp_path.iterdir())


def test_recipe_must_fit_the_stored_crops(tmp_path: Path) -> None:
    small, large = stored(tmp_path / "a.npy"), stored(tmp_path / "b.npy", size=64)
    photos = write_photos(tmp_path / "photos", 1)

    def refused(recipe: Recipe, sources: list[Path], complaint: str) -> None:
        with pytest.raises(DatasetError, match=complaint):
            new_crops(recipe, sources, 1)

    refused(TINY_RECIPE, [large], "crops of 64 pixels for recipe base2, which takes 32; make them with")
    refused(TINY_RECIPE, [small, large], "b.npy holds crops of 64 pixels, .*a.npy of 32; one run takes one")
    refused(TINY_RECIPE, [small, photos], "photos'] beside stored crops: give photos or")
    refused(replace(TINY_RECIPE, losses="paper"), [small], "stored crops have no labels")
    assert not [thread for thread in threading.enumerate() if thread.name == "crops"]


def test_training_batches_of_a_stored_file_repeat(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.npy")
    (one, count), (same, _) = (new_crops(TINY_RECIPE, [path], 3) for _ in range(2))
    with one, same:
        assert count == 5
        for _ in range(6):
            batch = one.next()
            assert batch.shape == (4, 3, 32, 32)
            assert batch.equal(same.next())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings(THIRD_PARTY)
def test_runs_of_both_stages_take_a_stored_file_and_end_their_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_sizes(monkeypatch)
    teacher = write_teacher(tmp_path / "teacher.onnx")
    crops = stored(tmp_path / "crops.npy", count=40, size=64)
    words = ("--data", crops, "--teacher", teacher, "--no-compile")
    command("train", "codec", *words, "--out", tmp_path / "codec")
    final = tmp_path / "codec" / "final.safetensors"
    held_out = ("--validate", crops, "--epochs", "0.3")
    command("train", "prompt", *words, *held_out, "--codec", final, "--out", tmp_path / "detect")
    assert (tmp_path / "detect" / "final.safetensors").exists()
    assert not [thread for thread in threading.enumerate() if thread.name == "crops"]
