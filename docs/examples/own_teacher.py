"""A task of your own, small enough to try in minutes: is a photo warm, cold or grey?

    python docs/examples/own_teacher.py train photos/ own.safetensors
    python docs/examples/own_teacher.py infer packs/colour photos/one.jpg

The first line trains a small classifier; docs/training.md, section 7, says what comes between the two. Its
labels come from the photos' own colours, so any photos will do. Nothing here is special to it: any torch
module that takes pictures (N, 3, H, W), RGB 0..1, and has a layer at 1/8 or 1/4 of the picture can take
its place.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

LABELS = ("warm", "cold", "grey")
GREY = 0.02  # mean red and blue nearer than this are grey


class ColourNet(nn.Module):
    """Picture (N, 3, H, W), RGB 0..1 -> logits (N, 3); `body` is what will travel, 32 channels at 1/8."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 16), (16, 24), (24, 32)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.deep = nn.Sequential(nn.Conv2d(32, 48, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Linear(48, len(LABELS))

    def forward(self, picture: Tensor) -> Tensor:
        return self.head(self.deep(self.body(picture)).mean(dim=(2, 3)))


def teacher() -> nn.Module:
    """What `--teacher docs/examples/own_teacher.py:teacher` calls; `--weights` fills it."""
    torch.manual_seed(0)
    return ColourNet()


def kind_of(pictures: Tensor) -> Tensor:
    """The true class of each picture (N, 3, H, W), by its mean red and blue."""
    means = pictures.mean(dim=(2, 3))
    difference = means[:, 0] - means[:, 2]
    return torch.where(difference.abs() < GREY, 2, torch.where(difference > 0, 0, 1))


def pictures_of(crops: np.ndarray) -> Tensor:
    """Crops (N, S, S, 3) uint8 -> pictures (N, 3, S, S), RGB 0..1."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2) / 255.0


def train(photos: Path, out: Path, steps: int = 300) -> float:
    """Train on crops of the photos; returns the share of right answers on further crops."""
    from splitcodec.training.photos import PhotoCropper, read_photos

    cropper = PhotoCropper(read_photos([photos]), size=128, seed=1, mosaic_share=0.0)
    net = teacher()
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(steps):
        pictures = pictures_of(cropper.batch(16))
        loss = F.cross_entropy(net(pictures), kind_of(pictures))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    save_file(net.state_dict(), str(out))
    with torch.no_grad():
        batches = [pictures_of(cropper.batch(16)) for _ in range(4)]
        right = [(net(pictures).argmax(dim=1) == kind_of(pictures)).float().mean() for pictures in batches]
    return float(torch.stack(right).mean())


def infer(pack_folder: str, photo: Path, rate: float = 1.0) -> str:
    """What edge and cloud do with one photo, in one process: compress, decompress, tail, answer."""
    from splitcodec.codec import FeatureDecoder, FeatureEncoder
    from splitcodec.frame import read_canvas
    from splitcodec.packs import load_pack
    from splitcodec.runtime import open_session
    from splitcodec.tasks import ResultLimits, postprocess_for

    pack = load_pack(pack_folder)
    (task,) = pack.tasks
    section = pack.task(task)
    canvas = read_canvas(photo.read_bytes(), None, section.input)
    size = (canvas.source_height, canvas.source_width)
    frame = FeatureEncoder(pack).compress(canvas.pixels, pack.prompt(task), rate, size)
    feature = FeatureDecoder(pack).decompress(frame.data).feature
    outputs = open_session(pack.tail_bytes(task)).run({"feature": feature})
    answer = postprocess_for(section.postprocess)(outputs, canvas.size, section.labels, ResultLimits())
    best = answer.classes[0]  # type: ignore[union-attr]
    return f"{best.label} {best.score:.2f} from {len(frame.data)} bytes"


if __name__ == "__main__":
    verb, place, file = sys.argv[1:4]
    if verb == "train":
        print(f"right on {train(Path(place), Path(file)):.0%} of further crops")
    else:
        print(infer(place, Path(file)))
