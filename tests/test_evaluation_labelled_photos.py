"""Classes of photos from a CSV, from names like ImageNet's, or from nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluation_rig import DictFiles, jpeg

from splitcodec.errors import DatasetError
from splitcodec.evaluation.dataset import Photo
from splitcodec.evaluation.labelled_photos import LabelledPhotos, classes_by_name, synonyms

LABELS = (
    "background",
    "crane",
    "harmonica, mouth organ, harp",
    "harp",
    "bathtub, tub",
    "crane",
    "tub, vat",
    "black-and-tan coonhound",
    "plane, carpenter's plane",
)
PHOTO = jpeg(20, 30)


def photos(files: dict[str, bytes], classes: Path | None = None) -> LabelledPhotos:
    return LabelledPhotos(DictFiles(files), "a set", LABELS, classes)


def by_name(*names: str) -> dict[str, int] | None:
    return classes_by_name(names, synonyms(LABELS))


def test_a_csv_gives_labels_or_numbers_and_leaves_other_photos_out() -> None:
    csv = b"\xef\xbb\xbffile,class\r\nb.jpg,harp\r\nsub/a.png,4\r\n"  # as a spreadsheet writes it
    held = photos({"classes.csv": csv, "b.jpg": PHOTO, "sub/a.png": PHOTO, "c.jpg": PHOTO})
    assert held.photos == (Photo(0, "b.jpg", 20, 30), Photo(1, "sub/a.png", 20, 30))
    assert held.classes == (3, 4)
    assert held.read(held.photos[1]) == PHOTO


def test_a_csv_that_is_given_goes_before_the_data_sets(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("file,class\na.jpg,1\n")
    held = photos({"classes.csv": b"file,class\na.jpg,2\n", "a.jpg": PHOTO}, tmp_path / "mine.csv")
    assert held.classes == (1,)


@pytest.mark.parametrize(
    ("csv", "reason"),
    [
        (b"file,label\na.jpg,1\n", "lack the column 'class'; write file,class"),
        (b"name,class\na.jpg,1\n", "lack the column 'file'"),
        (b"file,class\na.jpg,owl\n", "class 'owl' is neither a label nor a number below 9"),
        (b"file,class\na.jpg,9\n", "class '9' is neither"),
        (b"file,class\na.jpg,-1\n", "class '-1' is neither"),
        (b"file,class\na.jpg\n", "class '' is neither"),
        (b"file,class\na.jpg,\xff\n", "cannot be used"),
        (b"file,class\nother.jpg,1\n", "holds no photos with a class"),
    ],
)
def test_a_csv_that_does_not_fit_is_refused(csv: bytes, reason: str) -> None:
    with pytest.raises(DatasetError, match=reason):
        photos({"classes.csv": csv, "a.jpg": PHOTO})


def test_a_csv_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be used"):
        photos({"a.jpg": PHOTO}, tmp_path / "absent.csv")


def test_a_table_of_labels_beside_the_pictures_gives_numbers() -> None:
    table = b'{"n0_a.jpg": 3, "b.jpg": 4}'
    held = photos({"labels.json": table, "images/n0_a.jpg": PHOTO, "images/b.jpg": PHOTO, "c.jpg": PHOTO})
    assert [photo.file_name for photo in held.photos] == ["images/b.jpg", "images/n0_a.jpg"]
    assert held.classes == (4, 3)


@pytest.mark.parametrize("table", [b"[1]", b'{"a.jpg": 99}', b"{"], ids=["list", "class", "json"])
def test_a_table_of_labels_that_does_not_fit_is_refused(table: bytes) -> None:
    with pytest.raises(DatasetError, match=r"labels\.json of a set cannot be used"):
        photos({"labels.json": table, "images/a.jpg": PHOTO})


def test_names_like_imagenets_give_the_class_whatever_is_before_them() -> None:
    names = ("x-n02795169_Bathtub.jpg", "val/n12089078_black-and-tan_coonhound.JPEG", "plain.jpg")
    assert by_name(*names) == {names[0]: 4, names[1]: 7}
    assert by_name("plain.jpg", "n0279516_harp.jpg") is None


def test_photos_without_such_a_name_are_left_out() -> None:
    held = photos({"n02795169_bathtub.jpg": PHOTO, "plain.jpg": PHOTO})
    assert [photo.file_name for photo in held.photos] == ["n02795169_bathtub.jpg"]
    assert held.classes == (4,)


def test_the_class_that_begins_with_the_name_is_meant() -> None:
    assert by_name("n03495258_harp.jpg") == {"n03495258_harp.jpg": 3}  # not the mouth organ
    assert by_name("n04493381_tub.jpg") == {"n04493381_tub.jpg": 6}  # not the bathtub
    assert by_name("n03494278_mouth_organ.jpg") == {"n03494278_mouth_organ.jpg": 2}


def test_two_classes_of_one_name_are_told_by_the_order_of_the_ids() -> None:
    bird, machine, harp = "n02012849_crane.jpg", "n03126707_crane.jpg", "n02500000_harp.jpg"
    assert by_name(machine, bird) == {bird: 1, machine: 5}
    assert by_name(harp, machine) == {harp: 3, machine: 5}
    assert by_name(bird, harp) == {bird: 1, harp: 3}


def test_a_name_that_may_still_be_two_classes_is_refused() -> None:
    with pytest.raises(DatasetError, match="which class is called 'crane' cannot be told; give --classes"):
        by_name("n02012849_crane.jpg")


def test_several_photos_of_one_id_have_one_class() -> None:
    names = ("a/n02012849_crane.jpg", "b/n02012849_crane.jpg", "n03126707_crane.jpg")
    assert by_name(*names) == {names[0]: 1, names[1]: 1, names[2]: 5}
    with pytest.raises(DatasetError, match="no class is called"):
        by_name("n02012849_harp.jpg", "n02012849_tub.jpg")


@pytest.mark.parametrize(
    "names", [("n01440764_owl.jpg",), ("n03495258_harp.jpg", "n04000000_bathtub.jpg", "n05000000_harp.jpg")]
)
def test_names_no_class_can_have_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(DatasetError, match="give --classes"):
        by_name(*names)


def test_photos_no_one_labelled_are_all_kept_without_a_class() -> None:
    held = photos({"b.jpg": PHOTO, "a.webp": PHOTO, "readme.txt": b"x"})
    assert [photo.file_name for photo in held.photos] == ["a.webp", "b.jpg"]
    assert held.classes is None


def test_no_photos_or_no_pictures_are_refused() -> None:
    with pytest.raises(DatasetError, match="holds no photos"):
        photos({"readme.txt": b"x"})
    with pytest.raises(DatasetError, match=r"a\.jpg is no readable picture"):
        photos({"a.jpg": b"no picture"})
