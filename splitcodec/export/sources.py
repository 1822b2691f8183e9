"""What a pack is made from: stage 1's run, and per task a teacher, its labels and stage 2's run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from splitcodec.packs.convention import InputConvention
from splitcodec.packs.schema import TeacherOrigin
from splitcodec.prompts.schema import Identifier
from splitcodec.training.paper_teachers import PAPER_TEACHERS, teacher_source
from splitcodec.training.teacher import TeacherSource, TeacherSpec

CONVENTIONS = {
    "detect": InputConvention(height=416, width=416, fit="letterbox", fill=114, trim=True),
    "segment": InputConvention(height=512, width=512, fit="letterbox", fill=114, trim=True),
    "classify": InputConvention(height=224, width=224, fit="crop", fill=0, crop=0.875),
}
# The paper's networks in torchvision see pictures with a short side of 800 and 520 pixels.
PAPER_CONVENTIONS = {
    "retinanet-r50": InputConvention(height=800, width=1344, fit="letterbox", fill=116),
    "deeplabv3-r50": InputConvention(height=512, width=704, fit="stretch", fill=0),
}
KNOWN_TEACHERS = {
    "detect": ("YOLOX-Nano (COCO 80)", "YOLOX by Megvii, yolox_nano.onnx"),
    "segment": (
        "DeepLabV3 MobileNetV2 (VOC 21)",
        "google-coral/test_data, deeplabv3_mnv2_pascal_quant.tflite, dequantised",
    ),
    "classify": (
        "MobileNetV2 1.0 (ImageNet-1k)",
        "google-coral/test_data, tf2_mobilenet_v2_1.0_224_ptq.tflite, dequantised",
    ),
}
APACHE = "Apache-2.0"
STARTED_CODEC = "; the layers before it are the stem of the codec's g_a, which stage 1 leaves as they are"


class TaskSource(BaseModel):
    """One task of a pack, as `splitcodec export --tasks FILE` reads it.

    teacher: an ONNX file, retinanet-r50 or deeplabv3-r50, or package.module:function with `split`; weights,
    random_weights: of a torch teacher, as in training; run: stage 2's final.safetensors, without
    it the prompt does nothing and the tail is the teacher's; labels: text file, line k names class k. input,
    postprocess, origin and licence are known for the three teachers of the shipped pack.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Identifier
    teacher: str
    labels: Path
    split: str | None = None
    weights: Path | None = None
    random_weights: bool = False
    run: Path | None = None
    input: InputConvention | None = None
    postprocess: str | None = None
    origin: str | None = None
    licence: str = APACHE

    @property
    def source(self) -> TeacherSource:
        """The teacher to open."""
        return teacher_source(self.teacher, self.split, self.task, self.weights, self.random_weights)

    @property
    def convention(self) -> InputConvention:
        """How a picture becomes this task's canvas."""
        known = PAPER_CONVENTIONS.get(self.teacher, CONVENTIONS.get(self.task, CONVENTIONS["classify"]))
        return self.input or known


@dataclass(frozen=True)
class PackSources:
    """Stage 1's final.safetensors, the tasks, the codec's sizes by name, the pack's name.

    photos: training photos that each task's symbol tables are fitted to; without any, prompts have none of
    their own and the pack's Gaussian ones serve.
    """

    codec_file: Path
    tasks: tuple[TaskSource, ...]
    sizes: str = "nano"
    name: str = "nano-coco"
    photos: tuple[Path, ...] = ()


def teacher_origin(task: TaskSource, spec: TeacherSpec, started_codec: bool) -> TeacherOrigin:
    """What the manifest says about a task's teacher; the hash is of its file, or of its weights.

    started_codec: g_a began as this teacher's layers before the split.
    """
    own = task.split is not None or task.teacher in PAPER_TEACHERS
    known = None if own else KNOWN_TEACHERS.get(task.task)
    name, origin = known or (task.teacher, task.origin or "given by whoever made this pack")
    return TeacherOrigin(
        task=task.task,
        name=name,
        origin=task.origin or origin,
        licence=task.licence,
        sha256=_digest(task.source),
        changes=f"split at {spec.split}; the layers behind it are fine-tuned as the task tail against the "
        "teacher's outputs" + (STARTED_CODEC if started_codec else ""),
    )


def _digest(source: TeacherSource) -> str:
    if isinstance(source, Path):
        return hashlib.sha256(source.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for name, value in source.module().state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
