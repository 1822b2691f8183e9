"""Picture bytes to RGB pixels to the network's canvas.

    bytes --(caps, from the header)--> decoder --(EXIF orientation)--> RGB --(placement)--> canvas

JPEG goes through simplejpeg, which decodes straight to a smaller size where the canvas is at least twice as
small as the picture; PNG and WebP go through Pillow.

Where a picture lies on its canvas is splitcodec.placement's matter. All three ways resize with Pillow's
BILINEAR filter, which widens when it shrinks (antialiasing); OpenCV's INTER_LINEAR, which YOLOX was published
with, does not. The same functions serve the edge, the evaluation and the uncompressed teacher, so that their
numbers compare.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from splitcodec.errors import BrokenFrame
from splitcodec.picture import DEFAULT_LIMITS, Kind, PictureHeader, PictureLimits, inspect_picture
from splitcodec.placement import FrameSize, Window, trimmed_size

if TYPE_CHECKING:
    from splitcodec.packs.convention import InputConvention

RGB = NDArray[np.uint8]
"""A picture: uint8 [height, width, 3], RGB, 0..255, C-contiguous."""
SizeRule = Callable[[int, int], tuple[int, int]]
"""From a picture's true height and width to the least (height, width) it may be decoded to."""

MIN_REDUCTION: Final = 2  # JPEG reductions below 2 save no time and blur what the resize would keep
TRANSPARENT: Final = (114, 114, 114)  # lies behind see-through pixels; the letterbox fill of YOLOX
_ORIENTATION_TAG: Final = 0x0112
_EXIF_WINDOW: Final = 1 << 17  # EXIF is among the first segments, each at most 64 KiB
_AGAIN: Final = "check the camera or the link and send it again"
_READERS: Final[
    dict[Kind, type[ImageFile.ImageFile]]
] = {  # naming them spares Pillow loading all its formats
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
}


@dataclass(frozen=True)
class Picture:
    """An upright picture, perhaps decoded smaller than it is, and its true size in pixels."""

    pixels: RGB
    source_height: int
    source_width: int


@dataclass(frozen=True)
class Canvas:
    """What the network sees: uint8 [H, W, 3] RGB, and how the source picture lies on it."""

    pixels: RGB
    size: FrameSize

    @property
    def source_height(self) -> int:
        """Pixels."""
        return self.size.source_height

    @property
    def source_width(self) -> int:
        """Pixels."""
        return self.size.source_width


def read_picture(data: bytes, content_type: str | None = None, limits: PictureLimits = DEFAULT_LIMITS) -> RGB:
    """The whole picture, upright: uint8 [h, w, 3] RGB.

    content_type: as a client declared it, or None to go by the bytes alone.
    UnsupportedFrame: not a still JPEG, PNG or WebP; FrameTooLarge: over `limits`; BrokenFrame: damaged.
    """
    return decode_picture(data, content_type, limits).pixels


def read_canvas(
    data: bytes,
    content_type: str | None,
    convention: InputConvention,
    limits: PictureLimits = DEFAULT_LIMITS,
) -> Canvas:
    """Like read_picture and to_canvas in one, but JPEGs far above the canvas size are decoded reduced."""
    picture = decode_picture(
        data,
        content_type,
        limits,
        needed=lambda height, width: frame_size(convention, height, width).decoded_size,
    )
    return to_canvas(picture.pixels, convention, source_size=(picture.source_height, picture.source_width))


def decode_picture(
    data: bytes,
    content_type: str | None = None,
    limits: PictureLimits = DEFAULT_LIMITS,
    *,
    needed: SizeRule | None = None,
) -> Picture:
    """Decode and turn upright.

    needed: a JPEG may then come smaller, but never below the size this gives for its true one.
    Errors as for read_picture.
    """
    header = inspect_picture(data, content_type, limits)
    if header.kind == "jpeg":
        return _decode_jpeg(data, header, needed)
    pixels = _decode_with_pillow(data, header)
    return Picture(pixels, pixels.shape[0], pixels.shape[1])


def frame_size(convention: InputConvention, source_height: int, source_width: int) -> FrameSize:
    """How a picture of this size in pixels lies on the canvas of a convention."""
    height, width = convention.height, convention.width
    if convention.trim:
        height, width = trimmed_size(source_height, source_width, height, width)
    return FrameSize(source_height, source_width, height, width, convention.fit, convention.crop)


def to_canvas(rgb: RGB, convention: InputConvention, source_size: tuple[int, int] | None = None) -> Canvas:
    """Scale the part of a picture that the convention shows, put it in its place, fill the rest.

    rgb: uint8 [h, w, 3]; source_size: the true (height, width) where rgb was decoded reduced.
    """
    size = frame_size(convention, *(source_size or (rgb.shape[0], rgb.shape[1])))
    shown = size.canvas_window
    part = resize(rgb, shown.height, shown.width, _box(size, rgb))
    canvas = (size.network_height, size.network_width)
    if part.shape[:2] == canvas:
        return Canvas(part, size)
    pixels = np.full((*canvas, 3), convention.fill, dtype=np.uint8)
    pixels[: shown.height, : shown.width] = part
    return Canvas(pixels, size)


def resize(rgb: RGB, height: int, width: int, box: tuple[float, float, float, float] | None = None) -> RGB:
    """uint8 [h, w, 3] to [height, width, 3], bilinear with antialiasing; as it is if the size is right.

    box: left, top, right, bottom of the part to resize, in pixels of rgb; all of it by default.
    """
    if rgb.shape[:2] == (height, width) and box is None:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR, box=box))


def _box(size: FrameSize, rgb: RGB) -> tuple[float, float, float, float] | None:
    """The source window in pixels of rgb, which may be smaller than the source; None for the whole."""
    window = size.source_window
    if window == Window(0, 0, size.source_height, size.source_width):
        return None
    down, across = rgb.shape[0] / size.source_height, rgb.shape[1] / size.source_width
    right, bottom = window.left + window.width, window.top + window.height
    return window.left * across, window.top * down, right * across, bottom * down


def _decode_jpeg(data: bytes, header: PictureHeader, needed: SizeRule | None) -> Picture:
    orientation = _jpeg_orientation(data)
    sideways = orientation >= 5
    height, width = (header.width, header.height) if sideways else (header.height, header.width)
    least = (height, width) if needed is None else needed(height, width)
    least_height, least_width = least[::-1] if sideways else least
    try:
        stored = simplejpeg.decode_jpeg(
            data, "RGB", min_height=least_height, min_width=least_width, min_factor=MIN_REDUCTION, strict=True
        )
    except ValueError as error:
        raise BrokenFrame(f"the JPEG is damaged or truncated ({error}); {_AGAIN}") from error
    return Picture(_upright(stored, orientation), height, width)


def _decode_with_pillow(data: bytes, header: PictureHeader) -> RGB:
    try:
        with _READERS[header.kind](io.BytesIO(data)) as image:
            if image.size != (header.width, header.height):
                raise ValueError(f"it is {image.size}, its header said {(header.width, header.height)}")
            image.load()
            return _upright(_to_rgb(image), _orientation(image))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise a dozen unrelated types on damaged files
        raise BrokenFrame(f"the {header.kind} is damaged ({error}); {_AGAIN}") from error


def _to_rgb(image: Image.Image) -> RGB:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion would clip instead of scale
        grey = (np.asarray(image, dtype=np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        behind = Image.new("RGB", image.size, TRANSPARENT)
        behind.paste(rgba, mask=rgba.getchannel("A"))
        return np.asarray(behind)
    return np.asarray(image.convert("RGB"))


def _jpeg_orientation(data: bytes) -> int:
    if data.find(b"Exif\x00\x00", 0, _EXIF_WINDOW) < 0:
        return 1
    try:
        with _READERS["jpeg"](io.BytesIO(data)) as image:
            return _orientation(image)
    except Exception:  # a damaged EXIF block must not cost a frame whose pixels are sound
        return 1


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 (upright) where there is none or it makes no sense."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # as above
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(stored: RGB, orientation: int) -> RGB:
    """Turn pixels as stored [h, w, 3] the way EXIF orientation 1..8 says they are to be seen."""
    turned = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }[orientation]
    return np.ascontiguousarray(turned)
