"""Measuring from picture files to boxes, and `splitcodec eval` as a whole on the pack that ships."""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

from splitcodec.cli import app
from splitcodec.errors import DatasetError, SettingsError, UnknownTask
from splitcodec.evaluation.command import require_packages
from splitcodec.evaluation.dataset import Dataset, open_dataset
from splitcodec.evaluation.measure import category_ids, measure
from splitcodec.evaluation.run import detection_task
from splitcodec.evaluation.systems import Outputs, Sighting
from splitcodec.frame import Canvas
from splitcodec.packs import InputConvention

if TYPE_CHECKING:
    from splitcodec.packs import Pack

LABELS = ("person", "cat", "teapot")
CONVENTION = InputConvention(height=64, width=64, fit="letterbox", fill=114)


def jpeg(height: int, width: int) -> bytes:
    """A grey JPEG with a brighter square."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[height // 4 : height // 2, width // 4 : width // 2] = 200
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_dataset(path: Path, sizes: Sequence[tuple[int, int]], labels: Sequence[str]) -> Path:
    """A COCO tar with one photo per (height, width), each with one box of the first label."""
    document = {
        "images": [
            {"id": k, "file_name": f"{k}.jpg", "height": height, "width": width}
            for k, (height, width) in enumerate(sizes, start=1)
        ],
        "annotations": [
            {"id": k, "image_id": k, "category_id": 5, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
            for k in range(1, len(sizes) + 1)
        ],
        "categories": [{"id": 5 + k, "name": label} for k, label in enumerate(labels)],
    }
    files = {f"images/{k}.jpg": jpeg(*size) for k, size in enumerate(sizes, start=1)}
    with tarfile.open(path, "w") as tar:
        for name, data in {"instances.json": json.dumps(document).encode(), **files}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def two_photos(tmp_path: Path) -> Iterator[Dataset]:
    """A 128 x 64 and a 64 x 64 photo; category 5 is a cat, 6 a dog."""
    path = write_dataset(tmp_path / "two.tar", [(64, 128), (64, 64)], ["cat", "dog"])
    with open_dataset(path) as dataset:
        yield dataset


class OneCell:
    """Sees one box at the same place of every canvas, as every label, and charges the canvas's height."""

    codec, rate = "one cell", 2.0

    def look(self, canvas: Canvas) -> Sighting:
        outputs: dict[str, NDArray[np.float32]] = {
            f"head_s{stride}": np.zeros((1, 5 + len(LABELS), 64 // stride, 64 // stride), np.float32)
            for stride in (8, 16, 32)
        }
        outputs["head_s16"][0, :, 0, 1] = (0.0, 0.5, 0.0, 0.0, 1.0, 0.9, 0.8, 0.7)
        return Sighting(outputs, canvas.pixels.shape[0])


class Teacherlike(OneCell):
    """The same without bytes."""

    codec, rate = "teacher", None  # type: ignore[assignment]

    def look(self, canvas: Canvas) -> Sighting:
        outputs: Outputs = super().look(canvas).outputs
        return Sighting(outputs, None)


def test_boxes_come_back_in_source_pixels_under_the_data_sets_categories(two_photos: Dataset) -> None:
    steps: list[int] = []
    teacher, coded = measure(
        two_photos, [Teacherlike(), OneCell()], CONVENTION, LABELS, lambda: steps.append(1)
    )
    assert len(steps) == 4
    assert (teacher.num_bytes, coded.num_bytes) == ([], [64, 64])
    wide, square = coded.found
    # Person and teapot are not annotated here: only the cat counts.
    # Centre (16, 8), sides 16; scale 0.5 and 1.
    assert wide.category_ids.tolist() == [5]
    np.testing.assert_allclose(wide.boxes, [[16, 0, 48, 32]])
    np.testing.assert_allclose(square.boxes, [[8, 0, 24, 16]])
    np.testing.assert_allclose(square.scores, [0.8], rtol=1e-6)


def test_a_photo_of_another_size_than_annotated_is_refused(tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "d.tar", [(64, 128)], ["cat"])
    with open_dataset(path) as dataset:
        dataset.photos = (dataset.photos[0].__class__(1, "1.jpg", 128, 64),)
        with pytest.raises(DatasetError, match="is 128x64, its annotations are for 64x128"):
            measure(dataset, [OneCell()], CONVENTION, LABELS, lambda: None)


def test_data_without_any_of_the_labels_is_refused(two_photos: Dataset) -> None:
    assert category_ids(two_photos, LABELS).tolist() == [-1, 5, -1]
    with pytest.raises(DatasetError, match="annotates none of the task's 1 labels"):
        category_ids(two_photos, ["zebra"])


def test_missing_packages_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    require_packages()
    monkeypatch.setattr("splitcodec.evaluation.command.NEEDED", ("numpy", "no_such_package"))
    with pytest.raises(SettingsError, match=r"no_such_package not installed; .*run: pip install"):
        require_packages()


def write_teacher(path: Path, classes: int) -> Path:
    """A network with a YOLOX face: every cell sees a faint box of the first class."""
    nodes, weights, outputs = [], [], []
    for stride in (8, 16, 32):
        bias = np.zeros(5 + classes, np.float32)
        bias[4], bias[5] = 0.2, 0.2
        kernel = np.zeros((5 + classes, 3, stride, stride), np.float32)
        weights += [
            numpy_helper.from_array(kernel, f"w{stride}"),
            numpy_helper.from_array(bias, f"b{stride}"),
        ]
        nodes.append(
            helper.make_node(
                "Conv",
                ["images", f"w{stride}", f"b{stride}"],
                [f"head_s{stride}"],
                kernel_shape=[stride, stride],
                strides=[stride, stride],
            )
        )
        shape = ["n", 5 + classes, "h", "w"]
        outputs.append(helper.make_tensor_value_info(f"head_s{stride}", TensorProto.FLOAT, shape))
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "H", "W"])
    graph = helper.make_graph(nodes, "teacher", [image], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def test_a_task_that_gives_no_boxes_is_refused(default_pack: "Pack") -> None:
    assert detection_task(default_pack, "detect").postprocess == "yolox"
    with pytest.raises(UnknownTask):
        detection_task(default_pack, "segment")


@pytest.mark.slow
def test_eval_measures_the_pack_that_ships(tmp_path: Path, default_pack: "Pack") -> None:
    labels = default_pack.task("detect").labels
    data = write_dataset(tmp_path / "data.tar", [(96, 128), (128, 96)], labels[:2])
    teacher = write_teacher(tmp_path / "teacher.onnx", len(labels))
    out = tmp_path / "out" / "eval.json"
    words = ["eval", "--data", str(data), "--teacher", str(teacher), "--json", str(out), "--no-anchors"]
    result = CliRunner().invoke(app, [*words, "--rates", "0,1.5", "--resamples", "20"])
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text(encoding="utf-8"))
    assert [(row["codec"], row["rate"]) for row in report["rows"]] == [
        ("teacher", None),
        ("splitcodec", 0.0),
        ("splitcodec", 1.5),
    ]
    assert report["pack"]["codec_digest"] == default_pack.codec_digest
    assert report["frames"] == 2
    assert report["command"].endswith("--rates 0,1.5 --no-anchors --engine auto --resamples 20")
    assert report["provenance"]["commit"]
    coded = report["rows"][1]
    assert coded["bytes_per_frame"] > 48  # more than a header
    assert coded["bpp"] == pytest.approx(coded["bytes_per_frame"] * 2 * 8 / (2 * 96 * 128))
    assert out.with_suffix(".csv").read_text(encoding="utf-8").startswith("codec,rate,bytes_per_frame")
    assert out.with_suffix(".png").stat().st_size > 1000


@pytest.mark.slow
def test_eval_without_a_teacher_says_what_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPLITCODEC_TEACHER", raising=False)
    data = write_dataset(tmp_path / "data.tar", [(64, 64)], ["person"])
    result = CliRunner().invoke(app, ["eval", "--data", str(data), "--json", str(tmp_path / "e.json")])
    assert isinstance(result.exception, DatasetError)
    assert "give --teacher FILE.onnx" in str(result.exception)
