"""The `pixels` student: the extractor's picture goes into the whole, untouched teacher.

Compress-then-analyse, as TransTIC does it: it needs no split inside the tail's training, works with any
off-the-shelf model, and is the honest yardstick for the feature form.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from splitcodec.models.transforms import ImageExtractor
from splitcodec.training.teacher import TeacherHead

Student = Literal["feature", "pixels"]


def as_pixels(picture: Tensor) -> Tensor:
    """What the extractor gives, nominally -1..1 -> RGB 0..255."""
    return torch.clamp((picture + 1.0) * 127.5, 0.0, 255.0)


class PixelAdapter(nn.Module):
    """h^ (N, Ch, h, w) -> picture -> the teacher's own layers before the split -> its split tensor.

    Stands where the feature adapter stands; only the extractor learns.
    """

    def __init__(self, extractor: ImageExtractor, head: TeacherHead) -> None:
        super().__init__()
        self.extractor = extractor
        self.head = head.requires_grad_(False)

    def picture(self, feature: Tensor) -> Tensor:
        """h^ -> picture (N, 3, 8h, 8w), RGB 0..255."""
        return as_pixels(self.extractor(feature))

    def forward(self, feature: Tensor) -> Tensor:
        return self.head(self.picture(feature))
