"""A codec small enough to train in a test, a teacher with YOLOX's tensor names, photos, and one whole run.

The run goes through the command line: train codec, train prompt, export. It is made once per test session.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from splitcodec.cli import app
from splitcodec.export import build, checkpoint_pack
from splitcodec.export.build import CodecGraphs
from splitcodec.models.codec import FeatureCodec
from splitcodec.models.sizes import SIZES, CodecSizes
from splitcodec.training import prompt_run
from splitcodec.training.codec_run import CodecParts, build_parts
from splitcodec.training.prompt_run import TaskParts
from splitcodec.training.recipes import STAGE1, STAGE2

TINY = CodecSizes(
    "tiny",
    latent_channels=8,
    hyper_channels=4,
    feature_channels=8,
    stem_channels=8,
    pixel_channels=4,
    trunk_channels=12,
    trunk_blocks=1,
    importance_maps=2,
    decoder_channels=(12, 8),
    decoder_blocks=(1, 1),
    mean_channels=8,
    context_channels=8,
)
LABELS = ("cat", "dog", "owl")
EXPORT_EXAMPLE = (2, 160, 96)  # the shipped pack is traced and gated at 416x416
THIRD_PARTY = "ignore:`torch.jit.script` is deprecated:FutureWarning"  # on import of compressai
Nodes = list[onnx.NodeProto]
_made: list[WholeRun] = []


def tiny_parts(seed: int = 0, sizes: CodecSizes = TINY) -> CodecParts:
    """Untrained networks of the tiny codec."""
    torch.manual_seed(seed)
    return build_parts(sizes, 64, torch.device("cpu"))


def state_digest(module: nn.Module) -> str:
    """SHA-256 over names and bytes of a module's parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def smooth_photo(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """uint8 [height, width, 3]: waves and flat rectangles, as smooth and as edged as a photo."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width] / 64.0
    picture = np.full((height, width, 3), 110.0)
    for _ in range(6):
        fy, fx, phase = rng.uniform(-2, 2, 3)
        wave = np.sin(fy * rows + fx * columns + 3 * phase)
        picture += rng.uniform(5, 30, 3) * wave[..., None]
    for _ in range(5):
        top, left = rng.integers(0, height), rng.integers(0, width)
        tall, wide = rng.integers(4, height // 2), rng.integers(4, width // 2)
        picture[top : top + tall, left : left + wide] = rng.uniform(0, 255, 3)
    return np.clip(picture, 0, 255).astype(np.uint8)


def write_photos(folder: Path, count: int = 4) -> Path:
    """A folder of PNG photos of several sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(smooth_photo(96 + 16 * i, 160 - 16 * i, i)).save(folder / f"photo{i}.png")
    return folder


class _Teacher:
    """Collects nodes and random weights of the teacher's graph."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: Nodes = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=f"node.{output}", **attributes))
        return output

    def constant(self, name: str, array: NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def conv(self, source: str, output: str, channels: tuple[int, int], stride: int = 1) -> str:
        inputs, outputs = channels
        shape = (outputs, inputs, stride, stride)
        weight = self.rng.normal(size=shape) / (inputs * stride * stride) ** 0.5
        if source == "images":
            weight /= 64.0  # pixels are 0..255
        names = [
            self.constant(f"{output}.w", weight.astype(np.float32)),
            self.constant(f"{output}.b", self.rng.normal(size=outputs).astype(np.float32) / 4),
        ]
        return self.add("Conv", [source, *names], output, strides=[stride, stride])

    def double(self, source: str, output: str, factor: float) -> str:
        """Resize exactly as YOLOX's graph has it, for factor 2."""
        scales = self.constant(f"{output}.scales", np.array([1, 1, factor, factor], np.float32))
        mode = {"coordinate_transformation_mode": "asymmetric", "mode": "nearest", "nearest_mode": "floor"}
        return self.add("Resize", [source, "", scales], output, **mode)

    def level(self, name: str, channels: int) -> str:
        """Neck tensor -> box, logits, and the head with its sigmoids applied."""
        box = self.conv(f"pan_{name}", f"box_{name}", (channels, 4))
        obj = self.add(
            "Sigmoid", [self.conv(f"pan_{name}", f"obj_logit_{name}", (channels, 1))], f"obj_{name}"
        )
        logits = self.conv(f"pan_{name}", f"cls_logit_{name}", (channels, len(LABELS)))
        classes = self.add("Sigmoid", [logits], f"cls_{name}")
        return self.add("Concat", [box, obj, classes], f"head_{name}", axis=1)


def write_teacher(path: Path, seed: int = 5, factor: float = 2.0) -> Path:
    """A detector of random weights with the tensor names of the shipped pack's teacher."""
    t = _Teacher(seed)
    t.add("Relu", [t.conv("images", "stem", (3, 64), 8)], "feat_s8")
    t.add("Relu", [t.conv("feat_s8", "mid", (64, 6), 2)], "feat_s16")
    t.add("Relu", [t.conv("feat_s16", "low", (6, 8), 2)], "feat_s32")
    t.double("feat_s16", "up0", factor)
    t.add("Concat", ["feat_s8", "up0"], "joined", axis=1)
    t.conv("joined", "pan_s8", (70, 6))
    t.conv("feat_s16", "pan_s16", (6, 6))
    t.conv("feat_s32", "pan_s32", (8, 6))
    heads = [t.level(name, 6) for name in ("s8", "s16", "s32")]
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, "H", "W"])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in heads]
    graph = helper.make_graph(t.nodes, "teacher", [image], outputs, t.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


@dataclass(frozen=True)
class WholeRun:
    """What a run through the command line left behind."""

    folder: Path
    photos: Path
    teacher: Path
    codec_before: str  # digests of the codec's state before and after stage 2
    parts: TaskParts
    output: str
    graphs: CodecGraphs  # as the export made them

    @property
    def codec_file(self) -> Path:
        return self.folder / "codec" / "final.safetensors"

    @property
    def task_file(self) -> Path:
        return self.folder / "detect" / "final.safetensors"

    @property
    def pack(self) -> Path:
        return self.folder / "pack"

    def share_graphs(self, patch: pytest.MonkeyPatch) -> None:
        """Exports of this very codec take the graphs of its own export: tracing them is half a minute.

        That a second export gives the same bytes is shown in test_export_tasks.py.
        """

        def made(codec: FeatureCodec, prompt: object) -> CodecGraphs:
            assert state_digest(codec) == self.codec_before, "another codec than the run's"
            return self.graphs

        patch.setattr(checkpoint_pack, "export_codec", made)


def use_tiny_sizes(patch: pytest.MonkeyPatch) -> None:
    """The commands' default recipes with the tiny codec, a few steps and small crops."""
    short = {"sizes": "tiny", "steps": 3, "crop": 64, "batch": 4}
    codec = short | {"needs_start": False, "stem_learns": True}
    patch.setitem(SIZES, "tiny", TINY)
    patch.setitem(SIZES, "nano", TINY)  # what `splitcodec export` builds
    patch.setitem(STAGE1, "base2", replace(STAGE1["base2"], **codec))
    patch.setitem(STAGE1, "base2-longer", replace(STAGE1["base2-longer"], **codec))
    patch.setitem(STAGE2, "detect2", replace(STAGE2["detect2"], **short))
    patch.setattr(build, "EXAMPLE", EXPORT_EXAMPLE)


def command(*words: object) -> str:
    """Runs `splitcodec ...` in this process; its output."""
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def _make_run(folder: Path) -> WholeRun:
    photos, teacher = write_photos(folder / "photos"), write_teacher(folder / "teacher.onnx")
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    terms = '[{"name": "waves", "origin": "this test", "licence": "CC0", "items": 4}]'
    (folder / "terms.json").write_text(terms)
    made: list[tuple[TaskParts, str]] = []
    graphs: list[CodecGraphs] = []
    fresh_parts, export_codec = prompt_run.task_parts, checkpoint_pack.export_codec

    def recorded(*arguments: object) -> TaskParts:
        parts = fresh_parts(*arguments)  # type: ignore[arg-type]
        made.append((parts, state_digest(parts.codec)))
        return parts

    def exported(codec: FeatureCodec, prompt: dict[str, torch.Tensor]) -> CodecGraphs:
        graphs.append(export_codec(codec, prompt))
        return graphs[-1]

    data = ("--data", photos, "--teacher", teacher)
    codec, detect = folder / "codec", folder / "detect"
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_sizes(patch)
        patch.setattr(prompt_run, "task_parts", recorded)
        patch.setattr(checkpoint_pack, "export_codec", exported)
        command("train", "codec", *data, "--out", codec, "--no-compile")
        stage1 = codec / "final.safetensors"
        command("train", "prompt", *data, "--codec", stage1, "--out", detect, "--no-compile")
        words = ("--prompt", detect / "final.safetensors", "--labels", folder / "labels.txt")
        words += ("--data-terms", folder / "terms.json", "--name", "tiny-owls", "--notes", "made in a test")
        output = command("export", "--codec", stage1, "--teacher", teacher, "--out", folder / "pack", *words)
    (parts, before) = made[0]
    return WholeRun(folder, photos, teacher, before, parts, output, graphs[0])


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> WholeRun:
    """The run, made when first asked for and shared by every test module that imports this fixture."""
    if not _made:
        _made.append(_make_run(tmp_path_factory.mktemp("whole-run")))
    return _made[0]
