"""One evaluation run from its options to its report."""

import hashlib
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from splitcodec.errors import DatasetError, RateOutOfRange, SettingsError, UnknownTask
from splitcodec.evaluation.anchor_choice import chosen_anchors
from splitcodec.evaluation.anchors import Anchor
from splitcodec.evaluation.classification import ClassificationScorer
from splitcodec.evaluation.codec_system import MeasuredStudent, codec_systems, codec_under_test
from splitcodec.evaluation.dataset import open_dataset, open_files
from splitcodec.evaluation.detection import RETINANET_RULES, YOLOX_RULES, DetectionScorer
from splitcodec.evaluation.labelled_photos import LabelledPhotos
from splitcodec.evaluation.measure import measure
from splitcodec.evaluation.report import (
    REPORT_VERSION,
    Convention,
    FileUnderTest,
    PackUnderTest,
    Report,
    TaskReport,
)
from splitcodec.evaluation.rows import CONFIDENCE, bd_rates, equal_accuracy, rows_of
from splitcodec.evaluation.scorer import Metric, Scorer
from splitcodec.evaluation.segmentation import SegmentationScorer
from splitcodec.evaluation.shuffled_maps import shuffled_systems
from splitcodec.evaluation.systems import AnchorSystem, System, TeacherSystem, open_teacher
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.convention import InputConvention
from splitcodec.packs.schema import TaskSection
from splitcodec.provenance import run_origin
from splitcodec.teacher_inputs import TEACHER_INPUTS

RATE_STEP = 0.5  # by default every trained rate point and the middle between neighbours
HASH_BLOCK = 1 << 20
ALL_TASKS = "all"
BOX_RULES = {"yolox": YOLOX_RULES, "retinanet": RETINANET_RULES}
EVERY = ""  # key of what goes for every task that has nothing of its own
PerTask = Mapping[str, Path]


@dataclass(frozen=True)
class EvalOptions:
    """What to measure, as given to `splitcodec eval`.

    tasks: `all` for every task of the pack; data, teachers: by task, or under EVERY; classes: CSV for a
    classification's photos; rates None: all trained ones and their midpoints; anchors: names of picture
    codecs, None for the standard ones; student: which forms of the codec, see codec_system;
    shuffle_maps: also the codec with the maps of another photo, see shuffled_maps.
    """

    pack: str
    tasks: tuple[str, ...]
    data: PerTask
    teachers: PerTask
    classes: Path | None
    json: Path
    rates: tuple[float, ...] | None
    anchors: tuple[str, ...] | None
    engine: str
    threads: int
    resamples: int
    student: MeasuredStudent = "feature"
    shuffle_maps: bool = False


class EvaluationProgress:
    """Told how many steps there will be, then of each; the default tells nobody."""

    def begin(self, task: str, steps: int) -> None:
        """Before the first step of a task."""

    def advance(self) -> None:
        """After each step."""


def evaluate(options: EvalOptions, progress: EvaluationProgress) -> Report:
    """Measure, for each task, the teacher, the pack's codec and (if asked) the picture codecs."""
    started = time.monotonic()
    pack = load_pack(options.pack)
    pictures = chosen_anchors(options.anchors)
    tasks = [
        _evaluate_task(options, pack, task, pictures, progress) for task in chosen_tasks(pack, options.tasks)
    ]
    return Report(
        report_version=REPORT_VERSION,
        command=command_line(options),
        pack=PackUnderTest(pack.name, pack.codec_digest, options.engine),
        provenance=run_origin(),
        seconds=round(time.monotonic() - started, 1),
        tasks=tasks,
    )


def chosen_tasks(pack: Pack, tasks: Sequence[str]) -> list[str]:
    """The tasks asked for, each once; UnknownTask if the pack lacks one."""
    wanted = pack.tasks if ALL_TASKS in tasks else tuple(dict.fromkeys(tasks))
    for task in wanted:
        pack.task(task)
    return list(wanted)


def per_task(values: Sequence[str], option: str) -> dict[str, Path]:
    """`PATH` or `TASK=PATH`, each task once; SettingsError otherwise."""
    found: dict[str, Path] = {}
    for value in values:
        task, separator, path = value.partition("=")
        key, place = (task, path) if separator and task.isidentifier() else (EVERY, value)
        if key in found:
            raise SettingsError(f"{option} is given twice for {key or 'every task'}; give it once per task")
        found[key] = Path(place)
    return found


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


def anchor_systems(anchors: Sequence[Anchor], teacher: TeacherSystem, fill: int) -> list[AnchorSystem]:
    """Every picture codec at every one of its qualities."""
    return [
        AnchorSystem(anchor, quality, teacher, fill) for anchor in anchors for quality in anchor.qualities
    ]


@contextmanager
def open_scorer(path: Path, section: TaskSection, classes: Path | None) -> Iterator[Scorer[Any]]:
    """The scorer of a task's answers on a data set; UnknownTask if nobody can score them, DatasetError."""
    if section.postprocess in BOX_RULES:
        with open_dataset(path) as dataset:
            yield DetectionScorer(dataset, section.labels, BOX_RULES[section.postprocess])
    elif section.postprocess in ("deeplab", "deeplab_centred"):
        with open_dataset(path) as dataset:
            yield SegmentationScorer(dataset, section.labels, section.postprocess == "deeplab_centred")
    elif section.postprocess == "classify":
        with open_files(path) as files:
            photos = LabelledPhotos(files, path.name, section.labels, classes)
            yield ClassificationScorer(photos, section.labels)
    else:
        raise UnknownTask(
            f"nobody here judges {section.postprocess!r} answers; known: {', '.join(sorted(TEACHER_INPUTS))}"
        )


def command_line(options: EvalOptions) -> str:
    """The command that gives this report again, with file names instead of this machine's paths."""
    words = ["splitcodec", "eval", "--pack", Path(options.pack).name]
    for task in options.tasks:
        words += ["--task", task]
    for flag, places in (("--data", options.data), ("--teacher", options.teachers)):
        for task, path in places.items():
            words += [flag, f"{task}={path.name}" if task else path.name]
    words += ["--json", options.json.name]
    if options.classes is not None:
        words += ["--classes", options.classes.name]
    if options.rates is not None:
        words += ["--rates", ",".join(f"{rate:g}" for rate in options.rates)]
    if options.student != "feature":
        words += ["--student", options.student]
    if options.shuffle_maps:
        words.append("--shuffle-maps")
    if options.anchors is not None:
        words += ["--anchors", ",".join(options.anchors)] if options.anchors else ["--no-anchors"]
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


def _evaluate_task(
    options: EvalOptions, pack: Pack, task: str, pictures: Sequence[Anchor], progress: EvaluationProgress
) -> TaskReport:
    section = pack.task(task)
    data, teacher_file = _of(options.data, task), _of(options.teachers, task)
    if data is None:
        raise DatasetError(f"no data for task {task}; give --data PATH or --data {task}=PATH")
    teacher = open_teacher(teacher_file, section.postprocess, options.threads)
    codec = codec_under_test(options.student)
    rates = options.rates or default_rates(pack.manifest.codec.rate_points)
    systems: list[System] = [
        teacher,
        *codec_systems(pack, task, rates, options.engine, options.threads, teacher, options.student),
    ]
    if options.shuffle_maps:
        systems += shuffled_systems(pack, task, rates, options.engine, options.threads)
    systems += anchor_systems(pictures, teacher, section.input.fill)
    with open_scorer(data, section, options.classes) as scorer:
        progress.begin(task, len(systems) * len(scorer.photos))
        records = measure(scorer, systems, section.input, progress.advance)
        rows = rows_of(scorer, records, options.resamples)
    return TaskReport(
        task=task,
        metric=scorer.metric.key,
        metric_name=scorer.metric.name,
        prompt_digest=section.prompt.digest,
        data=FileUnderTest(scorer.data, sha256_of(data)),
        frames=len(scorer.photos),
        truths=scorer.truths,
        teacher=FileUnderTest((teacher_file or Path()).name, sha256_of(teacher_file or Path())),
        convention=_convention(scorer.metric, section.input, pictures, options.resamples),
        rows=rows,
        bd_rate=bd_rates(rows, codec),
        equal_accuracy=equal_accuracy(rows, codec),
    )


def _of(places: PerTask, task: str) -> Path | None:
    return places.get(task, places.get(EVERY))


def _convention(
    metric: Metric, canvas: InputConvention, pictures: Sequence[Anchor], resamples: int
) -> Convention:
    rest = f", fill {canvas.fill}" if canvas.fit == "letterbox" else ""
    rest += ", trimmed to multiples of 32" if canvas.trim else ""
    rest = f" of {canvas.crop:g}" if canvas.fit == "crop" else rest
    return Convention(
        metric=metric.definition,
        size=f"{canvas.width}x{canvas.height} {canvas.fit}{rest}",
        answers=metric.answers,
        bytes="everything on the wire but its framing: whole bitstreams and whole files, headers included",
        bpp="all bits over all pixels of the original photos",
        drop=f"teacher's {metric.name} minus the row's; {CONFIDENCE:.0%} percentile interval, {resamples} "
        "paired resamples of the photos",
        anchors={anchor.name: anchor.settings for anchor in pictures},
    )
