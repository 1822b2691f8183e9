"""The paper's teachers: torchvision's RetinaNet-R50-FPN and DeepLabV3-R50, to be split behind layer1 (1/4).

Both take pictures (N, 3, H, W), RGB 0..1, as every torch teacher here, and normalise them inside. What
torchvision does around its networks (resizing, anchors, suppression) is the pack's input convention and the
postprocesses `retinanet` and `deeplab_centred`. Weight files made elsewhere fit: names are torchvision's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitcodec.errors import TrainingError
from splitcodec.training.teacher import NamedTeacher, TeacherSource, TorchTeacher
from splitcodec.training.weights import TRAINING_ONLY

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SPREAD = (0.229, 0.224, 0.225)
UNTRAINED_SEED = 20
DEEP = ("layer2", "layer3", "layer4")


class _Normalised(NamedTeacher):
    """Keeps what ImageNet networks subtract and divide by."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[None, :, None, None], persistent=False)
        self.register_buffer("spread", torch.tensor(IMAGENET_SPREAD)[None, :, None, None], persistent=False)


class FrozenNorm(nn.Module):
    """torchvision's FrozenBatchNorm2d as one operation: same names and numbers, fewer nodes to export."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            fill = 0.0 if name in ("bias", "running_mean") else 1.0
            self.register_buffer(name, torch.full((channels,), fill))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-5)


def _with_plain_norms(module: nn.Module) -> nn.Module:
    """Replace every FrozenBatchNorm2d in place; to be filled from a file, or left as fresh ones are."""
    from torchvision.ops import FrozenBatchNorm2d

    for name, child in module.named_children():
        if isinstance(child, FrozenBatchNorm2d):
            setattr(module, name, FrozenNorm(len(child.weight)))
        else:
            _with_plain_norms(child)
    return module


class RetinaNetR50(_Normalised):
    """-> cls_logits (N, A, 91), bbox_regression (N, A, 4) of all anchors, the backbone's deeper layers."""

    outputs = ("cls_logits", "bbox_regression")
    deep = DEEP
    anchored = True

    def __init__(self) -> None:
        from torchvision.models.detection import retinanet_resnet50_fpn

        super().__init__()
        whole = retinanet_resnet50_fpn(weights=None, weights_backbone=None)
        self.backbone, self.head = _with_plain_norms(whole.backbone), whole.head

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        maps = self.backbone.body((image - self.mean) / self.spread)
        found = self.head(list(self.backbone.fpn(maps).values()))
        return {**found, **dict(zip(DEEP, maps.values(), strict=True))}


class DeepLabV3R50(_Normalised):
    """-> logits (N, 21, H/8, W/8), before torchvision's upsampling, and the backbone's deeper layers."""

    outputs = ("logits",)
    deep = DEEP

    def __init__(self) -> None:
        from torchvision.models.segmentation import deeplabv3_resnet50

        super().__init__()
        whole = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=21)
        self.backbone, self.classifier = whole.backbone, whole.classifier

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = (image - self.mean) / self.spread
        maps: dict[str, Tensor] = {}
        for name, layer in self.backbone.items():
            x = layer(x)
            if name in DEEP:
                maps[name] = x
        return {"logits": self.classifier(x), **maps}


def retinanet_r50_untrained() -> nn.Module:
    """Random weights, the same on every call."""
    return _untrained(RetinaNetR50)


def deeplabv3_r50_untrained() -> nn.Module:
    """Random weights, the same on every call."""
    return _untrained(DeepLabV3R50)


def retinanet_r50() -> nn.Module:
    """torchvision's COCO weights (36.4 mAP), from its cache or the net; TrainingError if neither has them."""
    from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights

    return _downloaded(retinanet_r50_untrained(), RetinaNet_ResNet50_FPN_Weights.COCO_V1)


def deeplabv3_r50() -> nn.Module:
    """torchvision's COCO weights with VOC labels (66.4 mIoU), as above."""
    from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights

    return _downloaded(deeplabv3_r50_untrained(), DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1)


def _untrained(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(UNTRAINED_SEED)
        return build()


def _downloaded(module: nn.Module, weights: object) -> nn.Module:
    try:
        state = weights.get_state_dict(progress=True, check_hash=True)  # type: ignore[attr-defined]
    except (URLError, OSError, RuntimeError) as error:
        raise TrainingError(
            f"torchvision's {weights} cannot be fetched ({error}); give --weights FILE, or --random-weights "
            "for a run that only shows that everything works"
        ) from error
    module.load_state_dict({k: v for k, v in state.items() if not k.startswith(TRAINING_ONLY)})
    return module


@dataclass(frozen=True)
class PaperTeacher:
    """How a teacher named on the command line is built, cut and called."""

    function: str
    split: str
    task: str


_HERE = "splitcodec.training.paper_teachers"
PAPER_TEACHERS = {
    "retinanet-r50": PaperTeacher(f"{_HERE}:retinanet_r50", "backbone.body.layer1", "detect"),
    "deeplabv3-r50": PaperTeacher(f"{_HERE}:deeplabv3_r50", "backbone.layer1", "segment"),
}


def teacher_source(
    teacher: str,
    split: str | None = None,
    task: str | None = None,
    weights: Path | None = None,
    random_weights: bool = False,
) -> TeacherSource:
    """What a command line names: one of PAPER_TEACHERS, package.module:function with a split, or a file."""
    known = PAPER_TEACHERS.get(teacher)
    if known is not None:
        bare = random_weights or weights is not None
        return TorchTeacher(
            known.function + ("_untrained" if bare else ""),
            split or known.split,
            task or known.task,
            None if random_weights else weights,
        )
    if split is not None:
        return TorchTeacher(teacher, split, task or "own", weights)
    if weights is not None or random_weights:
        raise TrainingError(f"{teacher} is a file with its own weights; --weights is for torch teachers")
    return Path(teacher)
