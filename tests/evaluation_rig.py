"""For the evaluation's tests: data sets in memory and in tars, and teachers of a few weights."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

Sizes = Sequence[tuple[int, int]]
LABELS = ("person", "cat", "teapot")


class DictFiles:
    """A data set's files, held in memory."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def names(self) -> list[str]:
        return list(self._files)

    def read(self, name: str) -> bytes:
        return self._files[name]


def write_tar(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    """A tar with these members."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def jpeg(height: int, width: int) -> bytes:
    """A grey JPEG with a brighter square."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[height // 4 : height // 2, width // 4 : width // 2] = 200
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def png(pixels: NDArray[np.uint8]) -> bytes:
    """[h, w] grey or [h, w, 3] RGB, as it is."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def coco_files(sizes: Sizes, labels: Sequence[str]) -> dict[str, bytes]:
    """One photo per (height, width), 1.jpg and so on, each with one box of the first label, category 5."""
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
    photos = {f"images/{k}.jpg": jpeg(*size) for k, size in enumerate(sizes, start=1)}
    return {"instances.json": json.dumps(document).encode(), **photos}


def mask_files(masks: Mapping[int, NDArray[np.uint8]]) -> dict[str, bytes]:
    """Class masks by photo number."""
    return {f"masks/{k}.png": png(mask) for k, mask in masks.items()}


def write_detector(path: Path, classes: int) -> Path:
    """A teacher with a YOLOX face: every cell sees a faint box of the first class."""
    bias = np.zeros(5 + classes, np.float32)
    bias[4], bias[5] = 0.2, 0.2
    heads = [_patches(f"head_s{n}", np.zeros((5 + classes, 3, n, n), np.float32), bias) for n in (8, 16, 32)]
    return _save(path, heads)


def write_segmenter(path: Path, classes: int) -> Path:
    """A teacher with DeepLab's face: class 1 where it is bright, class 0 elsewhere."""
    kernel = np.zeros((classes, 3, 8, 8), np.float32)
    kernel[1] = 1.0
    return _save(path, [_patches("logits", kernel, np.linspace(0.0, -1.0, classes, dtype=np.float32))])


def write_classifier(path: Path, classes: int) -> Path:
    """A teacher with MobileNet's face that always answers the last class."""
    nodes, weights, _ = _patches("map", np.zeros((classes, 3, 8, 8), np.float32), np.arange(classes))
    nodes += [
        helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["logits"]),
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])
    return _save(path, [(nodes, weights, output)])


Part = tuple[list[onnx.NodeProto], list[onnx.TensorProto], onnx.ValueInfoProto]


def _patches(name: str, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> Part:
    """A convolution whose stride is its kernel."""
    side = kernel.shape[-1]
    node = helper.make_node(
        "Conv", ["images", f"w_{name}", f"b_{name}"], [name], kernel_shape=[side, side], strides=[side, side]
    )
    weights = [
        numpy_helper.from_array(kernel, f"w_{name}"),
        numpy_helper.from_array(bias.astype(np.float32), f"b_{name}"),
    ]
    shape = ["n", len(kernel), f"h_{name}", f"w_{name}"]
    return [node], weights, helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _save(path: Path, parts: Sequence[Part]) -> Path:
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "H", "W"])
    graph = helper.make_graph(
        [node for nodes, _, _ in parts for node in nodes],
        "teacher",
        [image],
        [output for _, _, output in parts],
        [weight for _, weights, _ in parts for weight in weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path
