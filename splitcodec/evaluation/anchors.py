"""The picture codecs a user could put in front of the whole teacher: JPEG, WebP, AVIF, HEVC; VVC is in vvc.

Each takes the picture at network resolution without the canvas's fill (a little cheaper than coding the fill)
and gives it back after a real round trip through its bytes.
"""

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from PIL import Image

from splitcodec.errors import RuntimeUnavailable
from splitcodec.frame import RGB


@dataclass(frozen=True)
class CodedPicture:
    """num_bytes: size of the whole file or bitstream; picture: [h, w, 3] uint8 RGB decoded from it."""

    num_bytes: int
    picture: RGB


class Anchor(Protocol):
    """A picture codec with a quality scale of its own."""

    @property
    def name(self) -> str:
        """Like jpeg or hevc-slow; each once in a run."""
        ...

    @property
    def settings(self) -> str:
        """How it is set, for the report."""
        ...

    @property
    def qualities(self) -> tuple[int, ...]:
        """The qualities to measure, smallest rate first."""
        ...

    def round_trip(self, picture: RGB, quality: int) -> CodedPicture:
        """Code and decode a [h, w, 3] uint8 RGB picture."""
        ...


@dataclass(frozen=True)
class PillowAnchor:
    """A file format that Pillow writes; options go to its save() as they are."""

    name: str
    qualities: tuple[int, ...]
    options: tuple[tuple[str, int | str | bool], ...]

    @property
    def settings(self) -> str:
        """Save options of Pillow."""
        return "Pillow " + " ".join(f"{key}={value}" for key, value in self.options)

    def round_trip(self, picture: RGB, quality: int) -> CodedPicture:
        """Code and decode a [h, w, 3] uint8 RGB picture; RuntimeUnavailable if Pillow lacks the format."""
        buffer = io.BytesIO()
        try:
            Image.fromarray(picture).save(buffer, self.name.upper(), quality=quality, **dict(self.options))
        except (KeyError, OSError) as error:
            raise RuntimeUnavailable(f"this Pillow cannot write {self.name}: {error}") from error
        num_bytes = buffer.tell()
        with Image.open(buffer) as decoded:
            return CodedPicture(num_bytes, np.asarray(decoded.convert("RGB")))


@dataclass(frozen=True)
class HevcAnchor:
    """HEVC main profile, 4:2:0, one intra frame by x265; the bytes are the raw bitstream with its headers."""

    preset: str
    qualities: tuple[int, ...] = (46, 43, 40, 37, 34, 31, 28, 25)

    @property
    def name(self) -> str:
        """With the preset: hevc-medium, hevc-slow."""
        return f"hevc-{self.preset}"

    @property
    def settings(self) -> str:
        """How x265 is set."""
        return f"libx265 preset={self.preset} yuv420p, one intra frame, quality is the CRF, no info SEI"

    def round_trip(self, picture: RGB, quality: int) -> CodedPicture:
        """Code and decode a [h, w, 3] uint8 RGB picture; odd sides are padded by one and cropped again."""
        import av

        height, width = picture.shape[:2]
        padded = with_even_sides(picture)
        encoder = av.CodecContext.create("libx265", "w")
        encoder.height, encoder.width = padded.shape[:2]
        encoder.pix_fmt = "yuv420p"
        encoder.time_base = Fraction(1, 25)
        encoder.options = {
            "preset": self.preset,
            "x265-params": f"crf={quality}:keyint=1:info=0:log-level=none:pools=none:frame-threads=1",
        }
        frame = av.VideoFrame.from_ndarray(padded, format="rgb24").reformat(format="yuv420p")
        bitstream = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
        return CodedPicture(len(bitstream), decode_video("hevc", bitstream)[:height, :width])


def with_even_sides(picture: RGB) -> RGB:
    """[h, w, 3] -> the same with odd sides padded by one, as 4:2:0 needs it; the edge is repeated."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def decode_video(codec: str, bitstream: bytes) -> RGB:
    """The first picture of a raw bitstream, [h, w, 3] uint8 RGB."""
    import av

    decoder = av.CodecContext.create(codec, "r")
    decoded = [*decoder.decode(av.Packet(bitstream)), *decoder.decode(None)]
    return np.asarray(decoded[0].to_ndarray(format="rgb24"))


def standard_anchors() -> tuple[Anchor, ...]:
    """Four codecs, HEVC at two presets, over the range in which a detector goes from useless to unharmed.

    JPEG and AVIF keep the colour at full resolution: the detector gains more from it than it costs in bytes.
    """
    return (
        PillowAnchor(
            "jpeg", (5, 8, 12, 18, 28, 40, 55, 75, 90), (("optimize", True), ("subsampling", "4:4:4"))
        ),
        PillowAnchor("webp", (1, 5, 12, 25, 40, 55, 70, 85), (("method", 6),)),
        PillowAnchor("avif", (8, 14, 20, 28, 36, 45, 55, 68), (("speed", 6), ("subsampling", "4:4:4"))),
        HevcAnchor("medium"),
        HevcAnchor("slow"),
    )
