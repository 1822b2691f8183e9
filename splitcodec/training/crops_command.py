"""`splitcodec train crops`: crops made once, so that training does not resize photos. It needs no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from splitcodec.training.recipes import Recipe


def train_crops_command(
    data: Annotated[
        list[Path],
        typer.Option(help="Photos: a tar or a folder; may be repeated, and counts as often as it is named."),
    ],
    count: Annotated[int, typer.Option(min=1, help="Crops to make.")],
    out: Annotated[Path, typer.Option(help="File to write, .npy; `--data` of the other commands takes it.")],
    recipe: Annotated[
        str, typer.Option(help="Recipe of training/recipes.py whose size, scales and mosaics apply.")
    ] = "base2",
    size: Annotated[
        int | None, typer.Option(min=32, help="Side of a crop in pixels, for the recipe's.")
    ] = None,
    scales: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Smallest and largest scale of a photo, for the recipe's."),
    ] = None,
    mosaic_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of crops made of four photos.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="For the recipe's.")] = None,
) -> None:
    """Make crops once and store them: 256 pixels take 192 KiB each."""
    from splitcodec.training.photos import PhotoCropper, read_photos
    from splitcodec.training.stored_crops import write_crops

    chosen = _recipe(recipe, crop=size, scales=scales, mosaic_share=mosaic_share, seed=seed)
    side = chosen.crop
    cropper = PhotoCropper(read_photos(data), side, chosen.seed, chosen.scales, chosen.mosaic_share)
    with typer.progressbar(range(count), label="crops") as bar:
        write_crops(out, (cropper.crop() for _ in bar), count, side)
    typer.echo(f"{count} crops of {side} pixels in {out}")


def _recipe(
    name: str,
    crop: int | None,
    scales: tuple[float, float] | None,
    mosaic_share: float | None,
    seed: int | None,
) -> Recipe:
    """The recipe of that name with what was given in place of its own."""
    from splitcodec.training.recipes import STAGE1, STAGE2

    recipes = STAGE1 | STAGE2
    if name not in recipes:
        raise typer.BadParameter(f"{name!r} is none of {sorted(recipes)}", param_hint="--recipe")
    if scales is not None and not 0.0 < scales[0] <= scales[1]:
        raise typer.BadParameter(f"{scales} must rise and be above 0, like 0.5 1.2", param_hint="--scales")
    own = recipes[name]
    return replace(
        own,
        crop=own.crop if crop is None else crop,
        scales=own.scales if scales is None else scales,
        mosaic_share=own.mosaic_share if mosaic_share is None else mosaic_share,
        seed=own.seed if seed is None else seed,
    )
