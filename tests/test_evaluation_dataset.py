"""COCO data with or without masks from tars and folders, and data that is not COCO."""

import json
from pathlib import Path
from typing import Any

import pytest
from evaluation_rig import write_tar

from splitcodec.errors import DatasetError
from splitcodec.evaluation.dataset import Category, GroundTruth, Photo, open_dataset, open_files

DOCUMENT: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "a.jpg", "height": 30, "width": 40, "license": 1}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 18, "bbox": [1, 2, 3.5, 4], "area": 14.0, "iscrowd": 1},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 5, 6]},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
}


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    """A folder with these files."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.mark.parametrize("layout", ["tar", "tar.gz with ./", "folder", "coco folder", "flat folder"])
def test_every_layout_reads_the_same(tmp_path: Path, layout: str) -> None:
    annotations, picture = json.dumps(DOCUMENT).encode(), b"picture bytes"
    if layout == "tar":
        path = write_tar(tmp_path / "d.tar", {"instances.json": annotations, "images/a.jpg": picture})
    elif layout == "tar.gz with ./":
        files = {"./instances.json": annotations, "./images/a.jpg": picture}
        path = write_tar(tmp_path / "d.tgz", files, "w:gz")
    elif layout == "folder":
        path = write_folder(tmp_path, {"instances.json": annotations, "images/a.jpg": picture})
    elif layout == "coco folder":
        files = {"annotations/instances_val2017.json": annotations, "val2017/a.jpg": picture}
        path = write_folder(tmp_path, files)
    else:
        path = write_folder(tmp_path, {"instances.json": annotations, "a.jpg": picture})
    with open_dataset(path) as dataset:
        assert dataset.read(dataset.photos[0]) == picture
    assert dataset.photos == (Photo(7, "a.jpg", 30, 40),)
    assert dataset.categories == (Category(1, "person"), Category(18, "dog"))
    assert dataset.truths == (
        GroundTruth(7, 18, (1.0, 2.0, 3.5, 4.0), 14.0, True),
        GroundTruth(7, 1, (0.0, 0.0, 5.0, 6.0), 30.0, False),
    )


@pytest.mark.parametrize("layout", ["tar", "folder"])
def test_a_mask_is_found_by_the_photos_name(tmp_path: Path, layout: str) -> None:
    files = {"instances.json": json.dumps(DOCUMENT).encode(), "masks/a.png": b"mask", "masks/b.png": b"other"}
    path = write_tar(tmp_path / "d.tar", files) if layout == "tar" else write_folder(tmp_path, files)
    with open_dataset(path) as dataset:
        assert dataset.mask(dataset.photos[0]) == b"mask"
        assert dataset.mask(Photo(8, "c.jpg", 30, 40)) is None


@pytest.mark.parametrize("layout", ["tar", "folder"])
def test_every_file_is_listed_by_its_path_inside(tmp_path: Path, layout: str) -> None:
    files = {"classes.csv": b"file,class", "photos/a.jpg": b"a", "photos/deep/b.jpg": b"b"}
    path = write_tar(tmp_path / "d.tar", files) if layout == "tar" else write_folder(tmp_path, files)
    with open_files(path) as opened:
        assert sorted(opened.names()) == sorted(files)
        assert opened.read("photos/deep/b.jpg") == b"b"
        with pytest.raises(KeyError):
            opened.read("photos")


def test_a_photo_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    document = {**DOCUMENT, "images": [{**DOCUMENT["images"][0], "file_name": "../../secret.jpg"}]}
    root = write_folder(tmp_path / "data", {"instances.json": json.dumps(document).encode()})
    with open_dataset(root) as dataset, pytest.raises(DatasetError, match="holds none of"):
        dataset.read(dataset.photos[0])


def test_an_absolute_name_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    with open_files(write_folder(tmp_path / "data", {"a.jpg": b"a"})) as files:
        for name in (str(tmp_path / "secret.jpg"), "../secret.jpg", "deep/../../secret.jpg", ""):
            with pytest.raises(KeyError):
                files.read(name)


def test_a_data_set_of_links_is_read(tmp_path: Path) -> None:
    disk = write_folder(tmp_path / "disk", {"val2017/a.jpg": b"picture", "b.jpg": b"other"})
    root = write_folder(tmp_path / "data", {"instances.json": json.dumps(DOCUMENT).encode()})
    (root / "images").symlink_to(disk / "val2017", target_is_directory=True)
    (root / "b.jpg").symlink_to(disk / "b.jpg")
    (root / "lost.jpg").symlink_to(disk / "nothing")
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    for place in (root, tmp_path / "link"):
        with open_dataset(place) as dataset:
            assert dataset.read(dataset.photos[0]) == b"picture"
        with open_files(place) as files:
            assert files.names() == ["b.jpg", "images/a.jpg", "instances.json"]


def test_folders_that_link_to_each_other_are_listed_to_an_end(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"one/a.jpg": b"a", "two/b.jpg": b"b"})
    (root / "one/two").symlink_to(root / "two", target_is_directory=True)
    (root / "two/one").symlink_to(root / "one", target_is_directory=True)
    (root / "two/up").symlink_to(root, target_is_directory=True)
    with open_files(root) as files:
        assert files.names() == ["one/a.jpg", "one/two/b.jpg", "two/b.jpg", "two/one/a.jpg"]


def test_a_missing_photo_names_the_places_tried(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "d.tar", {"instances.json": json.dumps(DOCUMENT).encode()})
    with open_dataset(path) as dataset, pytest.raises(DatasetError, match=r"images/a\.jpg, val2017/a\.jpg"):
        dataset.read(dataset.photos[0])


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no"), open_dataset(tmp_path / "absent.tar"):
        pass
    with pytest.raises(DatasetError, match=r"holds none of: instances\.json"), open_dataset(tmp_path):
        pass


def test_a_file_that_is_no_tar_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo.tar"
    path.write_bytes(b"\xff\xd8 not a tar" * 100)
    with pytest.raises(DatasetError, match="not a readable tar"), open_dataset(path):
        pass


@pytest.mark.parametrize(
    "change",
    [
        {"images": []},
        {"images": [{"id": 7, "file_name": "a.jpg"}]},
        {"annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3]}]},
        {"annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": "1 2 3 4"}]},
        {"annotations": [{"id": 1, "image_id": 99, "category_id": 1, "bbox": [1, 2, 3, 4]}]},
        {"annotations": [{"id": 1, "image_id": 7, "category_id": 99, "bbox": [1, 2, 3, 4]}]},
        {"categories": None},
    ],
)
def test_malformed_annotations_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    root = write_folder(tmp_path, {"instances.json": json.dumps({**DOCUMENT, **change}).encode()})
    with pytest.raises(DatasetError), open_dataset(root):
        pass


def image(**changes: object) -> dict[str, Any]:
    return {"images": [{**DOCUMENT["images"][0], **changes}]}


def annotation(**changes: object) -> dict[str, Any]:
    return {"annotations": [{**DOCUMENT["annotations"][1], **changes}]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (annotation(bbox=[0, 0, float("nan"), 6]), "its numbers are finite and its sides above 0"),
        (annotation(bbox=[0, 0, float("inf"), 6]), "its numbers are finite and its sides above 0"),
        (annotation(bbox=[float("-inf"), 0, 5, 6]), "its numbers are finite and its sides above 0"),
        (annotation(bbox=[0, 0, 10**400, 6]), "its numbers are finite and its sides above 0"),
        (annotation(bbox=[0, 0, 1e200, 1e200]), "its numbers are finite and its sides above 0"),
        (annotation(bbox=[0, 0, -5, 6]), "its numbers are finite and its sides above 0"),
        (annotation(bbox=[0, 0, 5, 0]), "its numbers are finite and its sides above 0"),
        (annotation(bbox=[0, 0, 5]), r"a box is \[x, y, width, height\]"),
        (annotation(bbox=[0, 0, 5, "wide"]), "is malformed"),
        (annotation(area=float("nan")), "an area is finite and not below 0"),
        (annotation(area=-1), "an area is finite and not below 0"),
        (annotation(category_id=99), "is of category 99, which is not listed under categories"),
        (annotation(category_id=1.5), "1.5 is no whole number"),
    ],
)
def test_a_wrong_annotation_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    root = write_folder(tmp_path / "d", {"instances.json": json.dumps({**DOCUMENT, **change}).encode()})
    which = rf"instances\.json of d: annotation 2 of image 7 .*{said}.*: mend it or take it out"
    with pytest.raises(DatasetError, match=which), open_dataset(root):
        pass


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (image(height=0), "image 7 is 40x0 pixels; a side has at least 1"),
        (image(width=-3), "image 7 is -3x30 pixels; a side has at least 1"),
        (image(width=None), "image 7 is malformed"),
        ({"images": DOCUMENT["images"] * 2}, "image 7 is listed twice; an id names one"),
        ({"categories": DOCUMENT["categories"][:1] * 2}, "category 18 is listed twice; an id names one"),
        (annotation(image_id=8), "annotation 2 of image 8 is on an image that is not listed under images"),
    ],
)
def test_a_wrong_image_or_category_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    root = write_folder(tmp_path / "d", {"instances.json": json.dumps({**DOCUMENT, **change}).encode()})
    with pytest.raises(DatasetError, match=rf"instances\.json of d: {said}"), open_dataset(root):
        pass


def test_a_damaged_tar_is_named_where_it_is_read(tmp_path: Path) -> None:
    files = {"instances.json": json.dumps(DOCUMENT).encode(), "images/a.jpg": bytes(5000)}
    path = write_tar(tmp_path / "d.tar", files)
    whole = path.read_bytes()
    with open_dataset(path) as dataset:
        path.write_bytes(whole[:4000])
        with pytest.raises(DatasetError, match=r"d\.tar is not a readable tar .*fetch it again"):
            dataset.read(dataset.photos[0])
    packed = write_tar(tmp_path / "d.tgz", files, "w:gz")
    packed.write_bytes(packed.read_bytes()[: packed.stat().st_size // 2])
    with pytest.raises(DatasetError, match=r"d\.tgz is not a readable tar"), open_dataset(packed):
        pass


def test_annotations_that_are_not_json_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(DatasetError, match="not COCO detection data"),
        open_dataset(write_folder(tmp_path, {"instances.json": b"{"})),
    ):
        pass
