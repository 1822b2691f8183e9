"""Labels stay on their objects when a photo is cut, scaled and mirrored; COCO's own layouts are read."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training_rig import write_photos

from splitcodec.errors import DatasetError
from splitcodec.training import photos
from splitcodec.training.coco_masks import mask_of
from splitcodec.training.crops import Crops
from splitcodec.training.labels import IGNORED, LabelledCropper, LabelledPhoto, Place, read_labelled
from splitcodec.training.photos import PhotosOnDemand, read_photos

RED = (250, 0, 0)


def red_square(_: object = None) -> LabelledPhoto:
    """A 100 x 200 photo whose only red pixels are the labelled box and the mask's class 5."""
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[20:60, 80:120] = RED
    mask = np.zeros((100, 200), np.uint8)
    mask[20:60, 80:120] = 5
    boxes = np.array([[80, 20, 120, 60]], np.float32)
    return LabelledPhoto(lambda: picture, boxes, np.array([18]), lambda: mask)


@pytest.mark.parametrize("flip", [False, True])
def test_box_and_mask_follow_the_picture(flip: bool) -> None:
    place = Place(top=10, left=60, bottom=90, right=160, rows=40, columns=50, row=12, column=4)
    crop = place.cut(red_square().picture(), red_square(), 64, flip)
    red = (crop.image[..., 0] > 125) & (crop.image[..., 1] < 60)
    rows, columns = np.nonzero(red)
    x1, y1, x2, y2 = crop.boxes[0]
    assert (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1) == pytest.approx(
        (y1, x1, y2, x2), abs=1.0
    )
    assert crop.classes.tolist() == [18] + [-1] * 99
    assert (crop.mask[red] == 5).mean() > 0.9
    outside = np.ones((64, 64), bool)
    outside[12:52, 64 - 54 : 64 - 4] = False
    if not flip:
        outside = outside[:, ::-1]
    assert (crop.mask[outside] == IGNORED).all()
    assert (crop.image[outside] == photos.FILL).all()


def test_box_of_which_too_little_is_left_goes() -> None:
    far = Place(top=0, left=115, bottom=60, right=175, rows=60, columns=60, row=0, column=0)
    assert (far.cut(red_square().picture(), red_square(), 64, False).classes == -1).all()
    half = Place(top=0, left=100, bottom=60, right=160, rows=60, columns=60, row=0, column=0)
    crop = half.cut(red_square().picture(), red_square(), 64, False)
    assert crop.boxes[0].tolist() == [0, 20, 20, 60]


def test_crops_repeat_with_the_seed_and_an_error_of_the_reader_is_raised() -> None:
    one, other = (Crops(LabelledCropper([red_square()], 64, seed=5), 2) for _ in range(2))
    with one, other:
        (image, truth), (again, labels) = one.draw(), other.draw()
    assert image.shape == (2, 3, 64, 64)
    assert image.equal(again)
    assert truth is not None
    assert labels is not None
    assert truth.boxes.equal(labels.boxes)
    assert truth.mask.shape == (2, 64, 64)

    def broken() -> np.ndarray:
        raise DatasetError("photo 7 is gone")

    photo = LabelledPhoto(broken, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), None)
    with Crops(LabelledCropper([photo], 64, seed=5), 2) as crops:
        for _ in range(2):
            with pytest.raises(DatasetError, match="photo 7 is gone"):
                crops.next()


def document(segmentation: bool = False) -> str:
    annotation = {"id": 1, "image_id": 4, "category_id": 18, "bbox": [2, 3, 10, 12], "iscrowd": 0}
    if segmentation:
        annotation["segmentation"] = [[2, 3, 12, 3, 12, 15, 2, 15]]
    crowd = {"id": 2, "image_id": 4, "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 1}
    images = [{"id": 4, "file_name": "a.png", "height": 20, "width": 30}]
    return json.dumps({"images": images, "annotations": [annotation, crowd], "categories": []})


def png(shape: tuple[int, ...], value: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full(shape, value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def test_cocos_download_with_polygons_and_a_tar_with_masks(tmp_path: Path) -> None:
    coco = tmp_path / "coco"
    for folder in ("annotations", "train2017"):
        (coco / folder).mkdir(parents=True)
    (coco / "annotations/instances_train2017.json").write_text(document(segmentation=True))
    (coco / "train2017/a.png").write_bytes(png((20, 30, 3), 9))
    with tarfile.open(tmp_path / "small.tar", "w") as archive:
        parts = {"instances.json": document().encode(), "images/a.png": png((20, 30, 3), 9)}
        parts["masks/a.png"] = png((20, 30), 7)
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    whole, packed = read_labelled([coco, tmp_path / "small.tar"])
    for photo in (whole, packed):
        assert photo.picture().shape == (20, 30, 3)
        assert photo.boxes.tolist() == [[2, 3, 12, 15]], "the crowd is left out"
        assert photo.classes.tolist() == [18]
    assert whole.mask is not None
    assert packed.mask is not None
    assert (packed.mask() == 7).all()
    assert whole.mask()[8, 6] == 12, "dog, COCO category 18, is VOC class 12"
    assert whole.mask()[18, 25] == 0


def test_overlapping_objects_are_ignored_and_other_categories_background() -> None:
    square = [[2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]]
    other = [[8.0, 8.0, 18.0, 8.0, 18.0, 18.0, 8.0, 18.0]]
    rows = [{"category_id": 1, "segmentation": square}, {"category_id": 3, "segmentation": other}]
    mask = mask_of([*rows, {"category_id": 90, "segmentation": [[0, 0, 20, 0, 20, 20, 0, 20]]}], (20, 20))
    assert (mask[4, 4], mask[15, 15], mask[10, 10], mask[0, 0]) == (15, 7, 255, 0)


def test_photos_without_labels_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="the paper's losses need labels: give COCO data, or use --losses"):
        read_labelled([write_photos(tmp_path / "photos", 1)])
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "instances.json").write_text('{"images": [{"id": 1}]}')
    with pytest.raises(DatasetError, match="is not COCO detection data"):
        read_labelled([folder])
    (folder / "instances.json").write_text(document())
    with pytest.raises(
        DatasetError, match=r"instances\.json of .*broken: there is no images/a\.png for image 4;"
    ):
        read_labelled([folder])


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ([2, 3, float("nan"), 12], "its numbers are finite and its sides not below 0"),
        ([2, 3, 10, -12], "its numbers are finite and its sides not below 0"),
        ([2, 3], r"a box is \[x, y, width, height\]"),
    ],
)
def test_a_wrong_annotation_names_its_file_image_and_id(tmp_path: Path, box: list[float], said: str) -> None:
    listing = json.loads(document())
    listing["annotations"][0]["bbox"] = box
    (tmp_path / "instances.json").write_text(json.dumps(listing))
    with pytest.raises(DatasetError, match=rf"instances\.json of .*: annotation 1 of image 4 has .*{said}"):
        read_labelled([tmp_path])


@pytest.mark.parametrize(
    "segmentation",
    [
        [["x", 1, 2, 3, 4, 5]],
        [[1, 2]],
        {"size": [20, 30], "counts": None},
        {"size": [9, 9], "counts": "T1"},
        7,
    ],
)
def test_a_segmentation_that_is_no_shape_names_its_annotation(segmentation: object) -> None:
    rows = [{"id": 3, "image_id": 4, "category_id": 1, "segmentation": segmentation}]
    with pytest.raises(DatasetError, match=r"d: annotation 3 of image 4 has .* no shape on 30x20 pixels"):
        mask_of(rows, (20, 30), "instances.json of d")


def test_a_mask_that_is_no_picture_is_named(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(png((20, 30, 3), 9))
    (tmp_path / "masks/a.png").write_bytes(b"no picture")
    (tmp_path / "instances.json").write_text(document())
    (photo,) = read_labelled([tmp_path])
    assert photo.mask is not None
    with pytest.raises(DatasetError, match=r"masks/a\.png is no readable picture: .*; remove it"):
        photo.mask()


def test_the_two_flat_boxes_of_cocos_training_set_are_taken(tmp_path: Path) -> None:
    listing = json.loads(document())
    listing["annotations"][0]["bbox"] = [9.98, 188.56, 5.54, 0.0]
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(png((20, 30, 3), 9))
    (tmp_path / "instances.json").write_text(json.dumps(listing))
    (photo,) = read_labelled([tmp_path])
    place = Place(top=0, left=0, bottom=20, right=30, rows=20, columns=30, row=0, column=0)
    assert (place.cut(photo.picture(), photo, 64, flip=False).classes == -1).all()


def test_large_collections_are_decoded_on_demand_and_masks_are_no_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = write_photos(tmp_path / "open/train/0", 2)
    (tmp_path / "open/masks").mkdir()
    (tmp_path / "open/masks/a.png").write_bytes(png((20, 30), 7))
    kept = read_photos([tmp_path / "open"])
    monkeypatch.setattr(photos, "DECODE_BYTES", 1)
    lazy = read_photos([tmp_path / "open"])
    assert isinstance(lazy, PhotosOnDemand)
    assert len(kept) == len(lazy) == 2
    assert all(np.array_equal(a, b) for a, b in zip(kept, lazy, strict=True))
    (deep / "photo1.png").write_bytes(b"not a picture")
    with pytest.raises(
        DatasetError, match=r"photo1\.png is no readable picture: cannot identify.*; remove it"
    ):
        lazy[1]
