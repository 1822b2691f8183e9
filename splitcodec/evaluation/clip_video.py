"""The video codecs that a still camera would send instead: x264 and x265, a whole clip there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from splitcodec.errors import DatasetError
from splitcodec.evaluation.anchors import with_even_sides
from splitcodec.frame import RGB

CRFS: Final = (42, 37, 32, 27, 22)  # smallest rate first
VIDEO_CODECS: Final = ("x264", "x265")
SETTINGS: Final = "preset=medium tune=zerolatency yuv420p, a key frame every {frames} frames, no scene cuts"


@dataclass(frozen=True)
class CodedClip:
    """num_bytes: of the raw bitstream, headers included; pictures: [h, w, 3] uint8 RGB decoded from it."""

    num_bytes: int
    pictures: list[RGB]


def code_clip(codec: str, pictures: Sequence[RGB], fps: Fraction, crf: int, key_frames: int) -> CodedClip:
    """Code pictures of one size and decode them again; key_frames: how many frames from one key frame to the
    next. Odd sides are padded by one and cropped again."""
    import av

    height, width = pictures[0].shape[:2]
    encoder = av.CodecContext.create(f"lib{codec}", "w")
    encoder.height, encoder.width = with_even_sides(pictures[0]).shape[:2]
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", 1 / fps, fps
    own = f"keyint={key_frames}:min-keyint={key_frames}:scenecut=0"
    quiet = ":info=0:log-level=none:pools=none:frame-threads=1" if codec == "x265" else ":threads=1"
    encoder.options = {
        "preset": "medium",
        "tune": "zerolatency",
        "crf": str(crf),
        f"{codec}-params": own + quiet,
    }
    if codec == "x265":
        encoder.options = {**encoder.options, "x265-params": f"crf={crf}:{own}{quiet}"}
    decoder = av.CodecContext.create("h264" if codec == "x264" else "hevc", "r")
    num_bytes, decoded = 0, []
    for number, picture in enumerate([*pictures, None]):
        frame = None
        if picture is not None:
            frame = av.VideoFrame.from_ndarray(with_even_sides(picture), format="rgb24").reformat(
                format="yuv420p"
            )
            frame.pts = number
        for packet in encoder.encode(frame):
            num_bytes += packet.size
            decoded += decoder.decode(packet)
    decoded += decoder.decode(None)
    return CodedClip(num_bytes, [one.to_ndarray(format="rgb24")[:height, :width] for one in decoded])


def read_clip(path: Path, fps: float, most: int | None = None) -> list[RGB]:
    """The pictures of a video file, at most fps of them a second, [h, w, 3] uint8 RGB. DatasetError."""
    import av

    pictures: list[RGB] = []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                if frame.time is not None and frame.time * fps + 1e-6 < len(pictures):
                    continue
                pictures.append(np.asarray(frame.to_ndarray(format="rgb24")))
                if most is not None and len(pictures) == most:
                    break
    except (av.FFmpegError, OSError, IndexError) as error:
        raise DatasetError(f"clip {path} cannot be read ({error}); give a video file") from error
    if not pictures:
        raise DatasetError(f"clip {path} has no pictures; give a video file")
    return pictures
