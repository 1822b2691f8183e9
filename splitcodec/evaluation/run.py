"""One evaluation run from its options to its report."""

import hashlib
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splitcodec.errors import RateOutOfRange, UnknownTask
from splitcodec.evaluation.anchors import Anchor, standard_anchors
from splitcodec.evaluation.average_precision import MAX_DETECTIONS
from splitcodec.evaluation.codec_system import CODEC_NAME, codec_systems
from splitcodec.evaluation.dataset import Dataset, open_dataset
from splitcodec.evaluation.measure import IOU_THRESHOLD, SCORE_THRESHOLD, Record, measure
from splitcodec.evaluation.report import REPORT_VERSION, Convention, FileUnderTest, PackUnderTest, Report
from splitcodec.evaluation.rows import CONFIDENCE, bd_rates, equal_accuracy, rows_of
from splitcodec.evaluation.systems import AnchorSystem, System, Teacher, open_teacher
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.schema import TaskSection
from splitcodec.provenance import provenance

RATE_STEP = 0.5  # by default every trained rate point and the middle between neighbours
HASH_BLOCK = 1 << 20


@dataclass(frozen=True)
class EvalOptions:
    """What to measure, as given to `splitcodec eval`; rates None: all trained ones and their midpoints."""

    pack: str
    task: str
    data: Path
    teacher: Path | None
    json: Path
    rates: tuple[float, ...] | None
    anchors: bool
    engine: str
    threads: int
    resamples: int


class Progress:
    """Told how many steps there will be, then of each; the default tells nobody."""

    def begin(self, steps: int) -> None:
        """Before the first step."""

    def advance(self) -> None:
        """After each step."""


def evaluate(options: EvalOptions, progress: Progress) -> Report:
    """Measure the teacher, the pack's codec and (if asked) the picture codecs on every photo."""
    started = time.monotonic()
    pack = load_pack(options.pack)
    section = detection_task(pack, options.task)
    teacher = open_teacher(options.teacher, options.threads)
    rates = options.rates or default_rates(pack.manifest.codec.rate_points)
    pictures = standard_anchors() if options.anchors else ()
    systems: list[System] = [
        teacher,
        *codec_systems(pack, options.task, rates, options.engine, options.threads),
        *anchor_systems(pictures, teacher, section.input.fill),
    ]
    with open_dataset(options.data) as dataset:
        progress.begin(len(systems) * len(dataset.photos))
        records = measure(dataset, systems, section.input, section.labels, progress.advance)
    return _report(options, pack, section, dataset, pictures, records, started)


def parse_rates(text: str) -> tuple[float, ...] | None:
    """`0,0.5,3` to numbers, None for an empty text; RateOutOfRange if it is anything else."""
    if not text.strip():
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise RateOutOfRange(f"rates {text!r} are not numbers; write them like 0,0.5,3") from None


def default_rates(rate_points: int) -> tuple[float, ...]:
    """Every trained rate and the middle between neighbours: 0, 0.5 .. rate_points - 1."""
    return tuple(np.arange(0.0, rate_points - 1 + RATE_STEP / 2, RATE_STEP).tolist())


def anchor_systems(anchors: Sequence[Anchor], teacher: Teacher, fill: int) -> list[AnchorSystem]:
    """Every picture codec at every one of its qualities."""
    return [
        AnchorSystem(anchor, quality, teacher, fill) for anchor in anchors for quality in anchor.qualities
    ]


def detection_task(pack: Pack, task: str) -> TaskSection:
    """The task's section of the manifest; UnknownTask if it has none, or its answers are not boxes."""
    section = pack.task(task)
    if section.postprocess != "yolox":
        raise UnknownTask(
            f"task {task!r} gives {section.postprocess!r} results; mAP is measured on yolox detections"
        )
    return section


def command_line(options: EvalOptions) -> str:
    """The command that gives this report again, with file names instead of this machine's paths."""
    words = ["splitcodec", "eval", "--pack", Path(options.pack).name, "--task", options.task]
    words += ["--data", options.data.name, "--json", options.json.name]
    if options.teacher is not None:
        words += ["--teacher", options.teacher.name]
    if options.rates is not None:
        words += ["--rates", ",".join(f"{rate:g}" for rate in options.rates)]
    if not options.anchors:
        words.append("--no-anchors")
    return shlex.join([*words, "--engine", options.engine, "--resamples", str(options.resamples)])


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hex; empty for a folder."""
    if not path.is_file():
        return ""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(HASH_BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def _report(
    options: EvalOptions,
    pack: Pack,
    section: TaskSection,
    dataset: Dataset,
    pictures: Sequence[Anchor],
    records: Sequence[Record],
    started: float,
) -> Report:
    rows = rows_of(dataset, records, options.resamples)
    teacher = options.teacher or Path()
    return Report(
        report_version=REPORT_VERSION,
        command=command_line(options),
        task=options.task,
        pack=PackUnderTest(pack.name, pack.codec_digest, section.prompt.digest, options.engine),
        data=FileUnderTest(dataset.name, sha256_of(options.data)),
        frames=len(dataset.photos),
        boxes=len(dataset.truths),
        teacher=FileUnderTest(teacher.name, sha256_of(teacher)),
        convention=_convention(section, pictures, options.resamples),
        provenance=provenance(),
        seconds=round(time.monotonic() - started, 1),
        rows=rows,
        bd_rate=bd_rates(rows, CODEC_NAME),
        equal_accuracy=equal_accuracy(rows, CODEC_NAME),
    )


def _convention(section: TaskSection, pictures: Sequence[Anchor], resamples: int) -> Convention:
    return Convention(
        metric="COCO bbox AP 0.50:0.95 and 0.50 by pycocotools, all photos, boxes in source pixels",
        size=f"{section.input.width}x{section.input.height} {section.input.fit}, fill {section.input.fill}",
        detections=f"score > {SCORE_THRESHOLD}, every class of a cell, per-class NMS {IOU_THRESHOLD},"
        f" at most {MAX_DETECTIONS} per photo",
        bytes="everything on the wire but its framing: whole bitstreams and whole files, headers included",
        bpp="all bits over all pixels of the original photos",
        drop=f"teacher's map minus the row's; {CONFIDENCE:.0%} percentile interval, {resamples} paired"
        " resamples of the photos",
        anchors={anchor.name: anchor.settings for anchor in pictures},
    )
