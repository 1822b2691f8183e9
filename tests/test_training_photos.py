"""Photos become crops: order, size, fill, repeatability."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training_rig import smooth_photo, write_photos

from splitcodec.errors import DatasetError
from splitcodec.training.crops import Crops
from splitcodec.training.photos import FILL, PhotoCropper, read_photos


def test_folder_and_tar_give_the_same_photos_in_name_order(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 3)
    (folder / "notes.txt").write_text("not a photo")
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for path in sorted(folder.iterdir(), reverse=True):
            archive.add(path, path.name)
    loose, packed = read_photos([folder]), read_photos([tmp_path / "photos.tar"])
    assert [photo.shape for photo in loose] == [(96, 160, 3), (112, 144, 3), (128, 128, 3)]
    assert all(np.array_equal(a, b) for a, b in zip(loose, packed, strict=True))
    assert len(read_photos([folder, tmp_path / "photos.tar"])) == 6


def test_photos_behind_links_are_found(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "disk", 2)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/images").symlink_to(folder, target_is_directory=True)
    (folder / "again").symlink_to(tmp_path / "data", target_is_directory=True)
    linked = read_photos([tmp_path / "data"])
    assert [photo.shape for photo in linked] == [photo.shape for photo in read_photos([folder])]
    assert len(linked) == 2


@pytest.mark.parametrize("fault", ["absent", "no tar", "cut off"])
def test_a_missing_or_damaged_tar_is_named_with_the_remedy(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "photos.tgz"
    if fault != "absent":
        with tarfile.open(path, "w:gz") as archive:
            archive.add(write_photos(tmp_path / "photos", 2), "photos")
        path.write_bytes(b"no tar" * 99 if fault == "no tar" else path.read_bytes()[:-100])
    said = "there is no" if fault == "absent" else r"photos\.tgz is not a readable tar .*fetch it again"
    with pytest.raises(DatasetError, match=said):
        read_photos([path])


def test_grey_and_transparent_photos_become_rgb(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 30), 7, np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.full((20, 30, 4), 9, np.uint8)).save(tmp_path / "b.webp")
    assert [photo.shape for photo in read_photos([tmp_path])] == [(20, 30, 3)] * 2


def test_no_photos_is_an_error_that_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DatasetError, match=r"no photos in .*expected \('\.jpg', .* in a tar or a folder"):
        read_photos([tmp_path])


def test_directories_inside_a_tar_are_no_photos(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        folder = tarfile.TarInfo("a.jpg")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        buffer = io.BytesIO()
        Image.fromarray(smooth_photo(10, 12, 0)).save(buffer, "PNG")
        info = tarfile.TarInfo("b.png")
        info.size = buffer.tell()
        buffer.seek(0)
        archive.addfile(info, buffer)
    assert [photo.shape for photo in read_photos([tmp_path / "x.tar"])] == [(10, 12, 3)]


def test_source_named_twice_counts_twice_and_is_decoded_once(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 2)
    photos = read_photos([folder, folder])
    assert len(photos) == 4
    assert photos[0] is photos[2]
    assert photos[1] is photos[3]


def cropper(seed: int = 3, mosaic_share: float = 0.35) -> PhotoCropper:
    return PhotoCropper([smooth_photo(100, 140, i) for i in range(2)], 64, seed, mosaic_share=mosaic_share)


def test_batches_are_rgb_pixels_and_repeat_with_the_seed() -> None:
    with Crops(cropper(), 4) as one, Crops(cropper(), 4) as same, Crops(cropper(seed=4), 4) as other:
        for _ in range(3):
            batch, truth = one.draw()
            assert truth is None
            assert batch.shape == (4, 3, 64, 64)
            assert batch.dtype == torch.float32
            assert 0 <= batch.min() < batch.max() <= 255
            assert torch.equal(batch, same.next())
            assert not torch.equal(batch, other.next())


def test_batches_are_the_croppers_own_crops_in_order() -> None:
    alone = cropper()
    with Crops(cropper(), 2) as crops:
        for _ in range(3):
            expected = np.stack([alone.crop(), alone.crop()])
            assert np.array_equal(crops.next().permute(0, 2, 3, 1).numpy(), expected)


def test_small_photo_lies_in_the_letterbox_fill() -> None:
    source = PhotoCropper([np.full((20, 24, 3), 200, np.uint8)], 64, 0, mosaic_share=0.0)
    for _ in range(10):
        crop = source.crop()
        assert len(np.unique(crop)) == 2, "the photo and the fill, perhaps both brighter or darker"
        inside = (crop == crop.max()).all(axis=2)
        assert 0 < inside.mean() < 0.25
        assert crop.max() / crop.min() == pytest.approx(200 / FILL, rel=0.02)
        rows, columns = inside.any(axis=1), inside.any(axis=0)
        assert inside.sum() == rows.sum() * columns.sum(), "one rectangle"


def test_large_photo_covers_the_crop_and_mosaics_show_several() -> None:
    flat = [np.full((400, 400, 3), value, np.uint8) for value in (20, 60, 100, 140, 180, 220)]
    single = PhotoCropper(flat, 64, 1, mosaic_share=0.0)
    assert all(len(np.unique(single.crop())) == 1 for _ in range(10))
    several = PhotoCropper(flat, 64, 1, mosaic_share=1.0)
    assert max(len(np.unique(several.crop())) for _ in range(10)) >= 3
