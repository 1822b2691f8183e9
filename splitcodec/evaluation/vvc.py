"""VVC beside the other picture codecs, by an ffmpeg with libvvenc that the user has.

PyAV decodes VVC itself; only the encoder runs as a process of its own, once per picture and quality.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from splitcodec.errors import RuntimeUnavailable
from splitcodec.evaluation.anchors import CodedPicture, decode_video, with_even_sides
from splitcodec.frame import RGB

FFMPEG_VARIABLE = "SPLITCODEC_FFMPEG"
ENCODER = "libvvenc"
TIMEOUT_S = 120.0  # a picture of 416x416 takes 0.5 to 3 s
REMEDY = f"set {FFMPEG_VARIABLE} to an ffmpeg built with {ENCODER}, or leave vvc out of --anchors"


@dataclass(frozen=True)
class VvcAnchor:
    """VVC main 10 profile, 4:2:0, one intra frame by VVenC; the bytes are the raw bitstream with its headers.

    ffmpeg: the program; version: the line it names itself with.
    """

    ffmpeg: Path
    version: str
    name: str = "vvc"
    qualities: tuple[int, ...] = (54, 51, 48, 45, 42, 39, 36, 33)
    preset: str = "medium"

    @property
    def settings(self) -> str:
        """How VVenC is set."""
        return (
            f"{ENCODER} preset={self.preset} yuv420p10, one intra frame, quality is the QP, perceptual "
            f"adaptation as by default; {self.version}"
        )

    def round_trip(self, picture: RGB, quality: int) -> CodedPicture:
        """Code and decode a [h, w, 3] uint8 RGB picture; RuntimeUnavailable if the encoder fails."""
        height, width = picture.shape[:2]
        padded = with_even_sides(picture)
        size = f"{padded.shape[1]}x{padded.shape[0]}"
        source = f"-f rawvideo -pix_fmt rgb24 -s {size} -i pipe:0 -frames:v 1 -pix_fmt yuv420p10le"
        coder = f"-c:v {ENCODER} -preset {self.preset} -qp {quality} -threads 1 -f vvc pipe:1"
        bitstream = run_ffmpeg(self.ffmpeg, [*source.split(), *coder.split()], padded.tobytes())
        return CodedPicture(len(bitstream), decode_video("vvc", bitstream)[:height, :width])


def open_vvc() -> VvcAnchor:
    """With the ffmpeg of SPLITCODEC_FFMPEG, else of the PATH; RuntimeUnavailable if it lacks libvvenc."""
    found = shutil.which(os.environ.get(FFMPEG_VARIABLE) or "ffmpeg")
    if found is None:
        raise RuntimeUnavailable(f"there is no ffmpeg to code VVC with; {REMEDY}")
    ffmpeg = Path(found)
    if ENCODER not in run_ffmpeg(ffmpeg, ["-encoders"]).decode(errors="replace"):
        raise RuntimeUnavailable(f"{ffmpeg.name} was built without {ENCODER}; {REMEDY}")
    first = run_ffmpeg(ffmpeg, ["-version"]).decode(errors="replace").partition("\n")[0]
    return VvcAnchor(ffmpeg, first.partition(" Copyright")[0])


def run_ffmpeg(ffmpeg: Path, words: list[str], data: bytes = b"") -> bytes:
    """What it writes to its standard output, given `data`; RuntimeUnavailable if it fails or hangs."""
    command = [str(ffmpeg), "-v", "error", "-hide_banner", *words]
    try:
        return subprocess.run(command, input=data, capture_output=True, check=True, timeout=TIMEOUT_S).stdout
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()[-200:]
        raise RuntimeUnavailable(f"{ffmpeg.name} ended with {error.returncode}: {said}; {REMEDY}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeUnavailable(f"{ffmpeg.name} cannot be used: {error}; {REMEDY}") from error
