"""Photos that come with scikit-image and hold objects of COCO classes, to show and measure with."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

from splitcodec.errors import DatasetError

PHOTOS: Final = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "motorcycle_left.png")
"""Photos inside scikit-image's package that hold COCO classes: people, a cat, a cup, a motorcycle."""


def packaged_photos() -> list[Path]:
    """The photos of PHOTOS that this scikit-image has; DatasetError if it has none, or is not installed."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise DatasetError(
            "scikit-image, whose photos the demo shows, is not installed: pip install '.[demo]'"
        )
    folder = Path(spec.submodule_search_locations[0]) / "data"
    photos = [folder / name for name in PHOTOS if (folder / name).is_file()]
    if not photos:
        raise DatasetError(f"{folder} holds none of {', '.join(PHOTOS)}; install scikit-image from a wheel")
    return photos
