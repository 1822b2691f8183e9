"""VVC needs an ffmpeg of the user's: what is said where there is none, and that what it wrote is decoded."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from test_evaluation_systems import psnr, smooth_picture

from splitcodec.errors import RuntimeUnavailable
from splitcodec.evaluation import vvc
from splitcodec.evaluation.anchor_choice import chosen_anchors
from splitcodec.evaluation.vvc import VvcAnchor, open_vvc

CODED = Path(__file__).parent / "golden" / "vvc_66x34.bin"  # smooth_picture(33, 65) at QP 36, by VVenC
ENCODERS = " V....D libvvenc             libvvenc H.266 / VVC (codec vvc)"


def ffmpeg(folder: Path, encoders: str = ENCODERS, coding: str = f"cat {CODED}") -> Path:
    """A program that answers as ffmpeg does, and keeps its last arguments and input."""
    path = folder / "ffmpeg"
    path.write_text(
        f"""#!/bin/sh
case "$*" in
*-encoders*) echo "{encoders}" ;;
*-version*) echo "ffmpeg version n8.0 Copyright (c) 2000-2025 the FFmpeg developers" ;;
*) echo "$*" > {folder}/arguments; cat > {folder}/given; {coding} ;;
esac
"""
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VvcAnchor:
    monkeypatch.setenv(vvc.FFMPEG_VARIABLE, str(ffmpeg(tmp_path)))
    return open_vvc()


def test_bitstream_is_counted_whole_decoded_and_cropped(opened: VvcAnchor, tmp_path: Path) -> None:
    picture = smooth_picture(33, 65)
    coded = opened.round_trip(picture, 36)
    assert coded.num_bytes == CODED.stat().st_size
    assert coded.picture.shape == picture.shape
    assert coded.picture.dtype == np.uint8
    assert psnr(coded.picture, picture) > 32
    assert len((tmp_path / "given").read_bytes()) == 34 * 66 * 3, "sides made even by repeating the edge"
    arguments = (tmp_path / "arguments").read_text()
    assert "-s 66x34" in arguments
    assert "-c:v libvvenc -preset medium -qp 36" in arguments


def test_settings_name_the_program_without_its_place(opened: VvcAnchor, tmp_path: Path) -> None:
    assert opened.settings.endswith("; ffmpeg version n8.0")
    assert str(tmp_path) not in opened.settings
    assert len(opened.qualities) >= 6
    assert list(opened.qualities) == sorted(opened.qualities, reverse=True), "smallest rate first"


def test_vvc_comes_last_and_only_by_name(opened: VvcAnchor) -> None:
    assert [anchor.name for anchor in chosen_anchors(["vvc", "jpeg", "vvc"])] == ["jpeg", "vvc"]
    assert "vvc" not in [anchor.name for anchor in chosen_anchors(None)]


def test_a_missing_ffmpeg_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(vvc.FFMPEG_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(RuntimeUnavailable, match="no ffmpeg to code VVC with; set SPLITCODEC_FFMPEG to an"):
        chosen_anchors(["vvc"])
    monkeypatch.delenv(vvc.FFMPEG_VARIABLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeUnavailable, match="or leave vvc out of --anchors"):
        chosen_anchors(["vvc"])


def test_an_ffmpeg_without_the_encoder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(vvc.FFMPEG_VARIABLE, str(ffmpeg(tmp_path, encoders=" V....D libx265")))
    with pytest.raises(RuntimeUnavailable, match="ffmpeg was built without libvvenc; set SPLITCODEC_FFMPEG"):
        open_vvc()


def test_a_failing_encoder_is_told_with_its_own_words(tmp_path: Path) -> None:
    anchor = VvcAnchor(ffmpeg(tmp_path, coding="echo needs AVX2 >&2; exit 3"), "ffmpeg version n8.0")
    with pytest.raises(RuntimeUnavailable, match="ffmpeg ended with 3: needs AVX2; set"):
        anchor.round_trip(smooth_picture(32, 32), 40)
    with pytest.raises(RuntimeUnavailable, match="absent cannot be used"):
        VvcAnchor(tmp_path / "absent", "").round_trip(smooth_picture(32, 32), 40)
