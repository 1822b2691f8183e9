"""A clip of a still camera: our frames one by one, frames that hold cells, and video codecs, at real bytes.

No labels are needed: the yardstick is what the whole teacher finds in the uncoded frames ("agreement").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, TypedDict

import numpy as np
from PIL import Image

from splitcodec.codec import FeatureDecoder, FeatureEncoder, LatentState
from splitcodec.errors import UnknownTask
from splitcodec.evaluation.clip_judge import Agreement, ClipJudge
from splitcodec.evaluation.clip_report import ClipReport, ClipRow, System
from splitcodec.evaluation.clip_video import CRFS, SETTINGS, VIDEO_CODECS, code_clip, read_clip
from splitcodec.evaluation.report import FileUnderTest, PackUnderTest
from splitcodec.evaluation.run import BOX_RULES, EvaluationProgress, sha256_of
from splitcodec.evaluation.systems import Outputs, TeacherSystem, open_teacher
from splitcodec.frame import Canvas, to_canvas
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.schema import TAIL_INPUT
from splitcodec.provenance import run_origin
from splitcodec.runtime import open_session
from splitcodec.still_scene import HEIGHT, WIDTH, ChangeGate

WORTHS: Final = (0.003, 0.01, 0.03)  # of a bit; see splitcodec.codec.held
CHANGES: Final = (2.0, 4.0, 8.0)  # grey levels; see splitcodec.still_scene
KEY_INTERVAL_S: Final = 10.0


@dataclass(frozen=True)
class ClipOptions:
    """What to measure: fps pictures a second of a clip, at most `frames` of them, with a detection task."""

    clip: Path
    fps: float
    task: str
    teacher: Path | None
    pack: str
    rates: tuple[float, ...]
    engine: str
    threads: int
    frames: int | None = None


def evaluate_clip(options: ClipOptions, progress: EvaluationProgress) -> ClipReport:
    """Measure every way. UnknownTask: no detector; SettingsError: the pack holds no cells; DatasetError."""
    started = time.monotonic()
    pack = load_pack(options.pack)
    section = pack.task(options.task)
    if section.postprocess not in BOX_RULES:
        raise UnknownTask(f"task {options.task!r} finds no boxes; --clip needs a detection task")
    pack.check_holds()
    teacher = open_teacher(options.teacher, section.postprocess, options.threads)
    pictures = read_clip(options.clip, options.fps, options.frames)
    canvases = [to_canvas(picture, section.input) for picture in pictures]
    judge = ClipJudge(canvases, teacher, section.labels, BOX_RULES[section.postprocess], options.fps)
    ways = len(options.rates) * (1 + len(WORTHS)) + len(VIDEO_CODECS) * len(CRFS)
    progress.begin(options.task, ways * len(canvases))
    ours = OurClip(pack, options, canvases, judge, progress.advance)
    rows = [row for rate in options.rates for row in ours.rows(rate)]
    rows += _video_rows(options, canvases, section.input.fill, teacher, judge, progress.advance)
    return ClipReport(
        command=_command(options),
        pack=PackUnderTest(pack.name, pack.codec_digest, options.engine),
        provenance=run_origin(),
        clip=FileUnderTest(options.clip.name, sha256_of(options.clip)),
        teacher=FileUnderTest(
            str(options.teacher and options.teacher.name), sha256_of(options.teacher or Path())
        ),
        task=options.task,
        fps=options.fps,
        frames=len(canvases),
        boxes=judge.boxes,
        key_interval_s=KEY_INTERVAL_S,
        video=SETTINGS.format(frames=_key_frames(options.fps)),
        seconds=round(time.monotonic() - started, 1),
        rows=tuple(rows),
    )


class _Figures(TypedDict):
    agreement: float
    agreement50: float
    low: float
    high: float


@dataclass(frozen=True)
class _Sent:
    """One frame: what the tail gave, bytes that travelled, share that did not."""

    outputs: Outputs
    num_bytes: int
    held: float


class OurClip:
    """The clip through the encoder and decoder that the services use."""

    def __init__(
        self,
        pack: Pack,
        options: ClipOptions,
        canvases: Sequence[Canvas],
        judge: ClipJudge,
        advance: Callable[[], None],
    ) -> None:
        self._prompt = pack.prompt(options.task)
        self._canvases, self._judge, self._advance = canvases, judge, advance
        self._fps, self._key_frames = options.fps, _key_frames(options.fps)
        self._encoder = FeatureEncoder(pack, options.engine, options.threads)
        self._decoder = FeatureDecoder(pack, options.engine, options.threads)
        self._tail = open_session(pack.tail_bytes(options.task), options.engine, options.threads)

    def rows(self, rate: float) -> Iterator[ClipRow]:
        """Single frames, those without the ones that hardly change, then chains of every worth."""
        singles = self._chain(rate, None)
        yield self._row("single", rate, singles)
        for min_change in CHANGES:
            yield self._row("gated", rate, self._gated(singles, min_change), min_change=min_change)
        for worth in WORTHS:
            yield self._row("held", rate, self._chain(rate, worth), worth=worth)

    def _chain(self, rate: float, worth: float | None) -> list[_Sent]:
        """Every frame there and back; worth None: each by itself."""
        sent_frames: list[_Sent] = []
        ours: LatentState | None = None
        theirs: LatentState | None = None
        for number, canvas in enumerate(self._canvases):
            if worth is None or ours is None or number % self._key_frames == 0:
                size = (canvas.source_height, canvas.source_width)
                chain = worth is not None
                sent = self._encoder.compress(canvas.pixels, self._prompt, rate, size, chain=chain)
                found = self._decoder.decompress(sent.data)
            else:
                sent = self._encoder.compress_held(canvas.pixels, ours, worth)
                found = self._decoder.decompress(sent.data, theirs)
            if worth is not None:
                ours, theirs = sent.state, found.state()
            outputs = self._tail.run({TAIL_INPUT: found.feature})
            sent_frames.append(_Sent(outputs, sent.num_bytes, sent.held))
            self._advance()
        return sent_frames

    def _gated(self, singles: list[_Sent], min_change: float) -> list[_Sent]:
        """The singles as with `source_min_change` at an edge; what is left out keeps the last answer."""
        now = [0.0]
        gate, sent_frames = ChangeGate(min_change, lambda: now[0]), list[_Sent]()
        for number, (canvas, single) in enumerate(zip(self._canvases, singles, strict=True)):
            now[0] = number / self._fps
            shown = canvas.size.canvas_window
            grey = Image.fromarray(canvas.pixels[: shown.height, : shown.width]).convert("L")
            small = np.asarray(grey.resize((WIDTH, HEIGHT), Image.Resampling.BOX))
            sent_frames.append(single if gate.passes(small) else _Sent(sent_frames[-1].outputs, 0, 1.0))
        return sent_frames

    def _row(
        self,
        system: System,
        rate: float,
        sent: list[_Sent],
        worth: float | None = None,
        min_change: float | None = None,
    ) -> ClipRow:
        agreement = self._judge.score([one.outputs for one in sent])
        sizes, shares = [one.num_bytes for one in sent], [one.held for one in sent]
        return ClipRow(
            system=system,
            setting=rate,
            worth=worth,
            bytes_per_frame=round(float(np.mean(sizes)), 1),
            bytes_median=float(np.median(sizes)),
            **_rounded(agreement),
            held=None if system == "single" else round(float(np.mean(shares)), 3),
            min_change=min_change,
        )


def _video_rows(
    options: ClipOptions,
    canvases: Sequence[Canvas],
    fill: int,
    teacher: TeacherSystem,
    judge: ClipJudge,
    advance: Callable[[], None],
) -> Iterator[ClipRow]:
    """The picture alone is coded; the receiver puts the fill back, and the whole teacher looks."""
    shown = canvases[0].size.canvas_window
    parts = [np.ascontiguousarray(one.pixels[: shown.height, : shown.width]) for one in canvases]
    fps = Fraction(options.fps).limit_denominator(1001)
    for codec in VIDEO_CODECS:
        for crf in CRFS:
            coded = code_clip(codec, parts, fps, crf, _key_frames(options.fps))
            outputs = []
            for picture in coded.pictures:
                received = np.full_like(canvases[0].pixels, fill)
                received[: shown.height, : shown.width] = picture
                outputs.append(teacher.predict(received))
                advance()
            yield ClipRow(
                system=codec,
                setting=float(crf),
                worth=None,
                bytes_per_frame=round(coded.num_bytes / len(parts), 1),
                bytes_median=None,
                held=None,
                **_rounded(judge.score(outputs)),
            )


def _rounded(agreement: Agreement) -> _Figures:
    return {
        "agreement": round(agreement.over_all, 4),
        "agreement50": round(agreement.at_50, 4),
        "low": round(agreement.low, 4),
        "high": round(agreement.high, 4),
    }


def _key_frames(fps: float) -> int:
    return max(1, round(KEY_INTERVAL_S * fps))


def _command(options: ClipOptions) -> str:
    rates = ",".join(f"{rate:g}" for rate in options.rates)
    words = [
        "splitcodec eval",
        f"--clip {options.clip.name}",
        f"--fps {options.fps:g}",
        f"--pack {options.pack}",
    ]
    words += [f"--task {options.task}", f"--teacher {options.teacher and options.teacher.name}"]
    return " ".join([*words, f"--rates {rates}", f"--engine {options.engine}"])
