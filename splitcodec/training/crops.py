"""What a run is shown: batches of crops of photos, of labelled photos, or of a file of stored crops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from splitcodec.errors import DatasetError
from splitcodec.training.labels import LabelledCropper, Truth, read_labelled
from splitcodec.training.photos import PhotoCropper, read_photos
from splitcodec.training.prefetch import Prefetcher
from splitcodec.training.recipes import Recipe
from splitcodec.training.stored_crops import SUFFIX, StoredCrops

AHEAD = 4  # batches kept ready

Cropper = PhotoCropper | LabelledCropper | StoredCrops


class Crops:
    """Endless batches from a cropper, made by one background thread until it is closed: use it in a `with`.

    The cropper is the thread's alone from then on. After an error in it, draw() and next() raise that error.
    """

    def __init__(self, cropper: Cropper, batch: int) -> None:
        def make() -> tuple[Tensor, Truth | None]:
            made = cropper.batch(batch)
            images, truth = made if isinstance(made, tuple) else (made, None)
            return torch.from_numpy(images), truth

        self._ready = Prefetcher(make, AHEAD, "crops")

    def __enter__(self) -> Crops:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def draw(self) -> tuple[Tensor, Truth | None]:
        """The next crops (N, 3, S, S) float32 RGB 0..255, channels last in memory; and labels, if any."""
        images, truth = self._ready.next()
        return images.permute(0, 3, 1, 2).to(torch.float32), truth

    def next(self) -> Tensor:
        """The next crops alone."""
        return self.draw()[0]

    def close(self) -> None:
        """End the thread."""
        self._ready.close()


def new_crops(recipe: Recipe, sources: Sequence[Path], seed: int) -> tuple[Crops, int]:
    """Crops of these photos, with labels if the recipe's losses need them, and how many photos there are.

    Files of stored crops (.npy) take the place of photos; then the count is that of their rows.
    """
    if any(source.suffix == SUFFIX for source in sources):
        stored = _stored(recipe, sources, seed)
        return Crops(stored, recipe.batch), len(stored)
    if recipe.losses == "paper":
        labelled = read_labelled(sources)
        return Crops(LabelledCropper(labelled, recipe.crop, seed, recipe.scales), recipe.batch), len(labelled)
    photos = read_photos(list(sources))
    cropper = PhotoCropper(photos, recipe.crop, seed, recipe.scales, recipe.mosaic_share)
    return Crops(cropper, recipe.batch), len(photos)


def _stored(recipe: Recipe, sources: Sequence[Path], seed: int) -> StoredCrops:
    if recipe.losses == "paper":
        raise DatasetError("stored crops have no labels, which the paper's losses need; give COCO data")
    others = [str(source) for source in sources if source.suffix != SUFFIX]
    if others:
        raise DatasetError(f"{others} beside stored crops: give photos or stored crops, not both")
    stored = StoredCrops(list(sources), seed)
    if stored.size != recipe.crop:
        raise DatasetError(
            f"stored crops of {stored.size} pixels for recipe {recipe.name}, which takes {recipe.crop}; "
            f"make them with --recipe {recipe.name} or --size {recipe.crop}"
        )
    return stored
