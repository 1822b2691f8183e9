"""The manifest of a pack, version 1: pydantic models, frozen, unknown keys refused.

manifest.json  codec/*.onnx  codec/tables.npz  prompts/<task>.safetensors  prompts/<task>.json
tails/<task>.onnx  MODEL_CARD.md
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, model_validator

from splitcodec.entropy import LIMIT_MAX, SIGMA_LEVELS
from splitcodec.packs.convention import InputConvention
from splitcodec.packs.digest import canonical_digest, prompt_digest
from splitcodec.prompts.schema import (
    EXACT_PREFIX,
    RATE_TENSORS,
    TENSOR_NAME,
    Y_COUNTS,
    ExactConv,
    GraphName,
    Identifier,
    Sha256,
    Strict,
    TensorSpec,
)

FORMAT_VERSION: Final = 1
MANIFEST_FILE: Final = "manifest.json"
MODEL_CARD_FILE: Final = "MODEL_CARD.md"
GRAPH_INPUTS: Final[dict[GraphName, tuple[str, ...]]] = {
    "head": ("image", "gain_y"),
    "hyper_encoder": ("y", "gain_z"),
    "scale": ("z_symbols", "rate_shift"),
    "quantizer": ("y", "z_symbols", "gain_z_inv", "symbol_limit"),
    "decoder": ("symbols", "z_symbols", "gain_z_inv", "gain_y_inv"),
}
"""Inputs of each codec graph apart from its prompt tensors."""
HOLD_INPUTS: Final = ("held", "kept")
"""Further inputs of quantizer and decoder where cells can be held: [N, 1, h/2, w/2], [N, Cy, h, w]."""
LATENT_OUTPUT: Final = "latent"
"""Their second output then: y_hat with gain, [N, Cy, h, w]."""
GRAPH_OUTPUT: Final[dict[GraphName, str]] = {
    "head": "y",
    "hyper_encoder": "z_symbols",
    "scale": "sigma_index",
    "quantizer": "symbols",
    "decoder": "feature",
}
IMPORTANCE_OUTPUT: Final = "importance"
"""Second output of a head whose prompts select what matters: the importance maps, which never travel."""
MAX_LABEL: Final = 100  # characters
TAIL_INPUT: Final = "feature"
PICTURE_OUTPUT: Final = "picture"

RelativePath = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$", max_length=200
    ),
]
"""A path inside the pack: never absolute, no part with a leading dot, so neither `..` nor hidden files."""
Channels = Annotated[int, Field(ge=1, le=4096)]


class FileEntry(Strict):
    """One file of the pack and the SHA-256 it must have."""

    file: RelativePath
    sha256: Sha256


class GraphEntry(FileEntry):
    """One ONNX graph; `macs_per_pixel` counts multiplications per pixel of the network input."""

    macs_per_pixel: float = Field(ge=0)


class CodecSection(Strict):
    """Everything both sides must share; its digest is in the header of every bitstream."""

    latent_channels: Channels
    hyper_channels: Channels
    feature_channels: Channels
    size_multiple: Literal[32]
    rate_points: int = Field(ge=1, le=64)
    z_max: int = Field(ge=1, le=255)
    graphs: dict[GraphName, GraphEntry]
    tables: FileEntry
    prompt_schema: dict[str, TensorSpec] = Field(max_length=1024)
    exact_bound: dict[str, ExactConv] = Field(max_length=64)

    @model_validator(mode="after")
    def _is_complete(self) -> CodecSection:
        if missing := set(GRAPH_INPUTS) - set(self.graphs):
            raise ValueError(f"graphs lack {sorted(missing)}")
        if bad := [name for name in self.prompt_schema if not TENSOR_NAME.match(name)]:
            raise ValueError(f"prompt tensor names {bad} are malformed")
        self._check_rate_tensors()
        self._check_exact_tensors()
        return self

    def _check_rate_tensors(self) -> None:
        k, cy, cz = self.rate_points, self.latent_channels, self.hyper_channels
        want = dict(zip(RATE_TENSORS, ((k, cy), (k, cz), (k, cy), (k, cz, 2 * self.z_max + 1)), strict=True))
        for name, shape in want.items():
            spec = self.prompt_schema.get(name)
            dtype = "float32" if name.startswith("rate.gain") else "int32"
            if spec is None or (spec.shape, spec.dtype, spec.graphs) != (shape, dtype, ()):
                raise ValueError(f"{name} must be {dtype} {shape} and feed no graph; the schema has {spec}")
        self._check_fitted_tables()

    def _check_fitted_tables(self) -> None:
        spec = self.prompt_schema.get(Y_COUNTS)
        if spec is None:
            return
        good = len(spec.shape) == 2 and spec.shape[0] == SIGMA_LEVELS and spec.shape[1] % 2 == 1
        if not good or spec.shape[1] > 2 * LIMIT_MAX + 1 or spec.dtype != "int32" or spec.graphs:
            raise ValueError(
                f"{Y_COUNTS} must be int32 ({SIGMA_LEVELS}, odd width up to {2 * LIMIT_MAX + 1}) and feed no "
                f"graph; the schema has {spec}"
            )

    def _check_exact_tensors(self) -> None:
        for name, spec in self.prompt_schema.items():
            if name in (*RATE_TENSORS, Y_COUNTS):
                continue
            exact = name.startswith(EXACT_PREFIX)
            if spec.dtype != "float32" or not spec.graphs or exact != ("scale" in spec.graphs):
                raise ValueError(
                    f"{name} must be float32, feed a graph, and feed `scale` only as {EXACT_PREFIX}*"
                )
            if exact and name.rpartition(".")[0] not in self.exact_bound:
                raise ValueError(f"exact_bound lacks {name.rpartition('.')[0]}, which feeds the scale graph")

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of this section as canonical JSON."""
        return canonical_digest(self.model_dump(mode="json"))


class PromptEntry(FileEntry):
    """The prompt of a task: its tensors, its digest, and the check of its sigma indexes (packs/check.py)."""

    digest: Sha256
    sigma_check: Sha256


class TaskSection(Strict):
    """One task: prompt, tail, input convention, labels and how the tail's outputs become a result."""

    prompt: PromptEntry
    tail: GraphEntry
    input: InputConvention
    labels: tuple[Annotated[str, StringConstraints(min_length=1, max_length=MAX_LABEL)], ...] = Field(
        max_length=100_000
    )
    postprocess: Identifier


class MeasuredRow(Strict):
    """One measured operating point; `metrics` names its own entries, e.g. map, map50, drop."""

    task: Identifier
    data: str
    frames: int = Field(ge=1)
    rate: float = Field(ge=0)
    bytes_per_frame: float = Field(ge=0)
    bpp: float = Field(ge=0)
    metrics: dict[str, float]


class TeacherOrigin(Strict):
    """The network a task was learned from, with its licence and what was changed."""

    task: Identifier
    name: str
    origin: str
    licence: str
    sha256: Sha256
    changes: str = ""


class TrainingData(Strict):
    """A set of training pictures and their terms."""

    name: str
    origin: str
    licence: str
    items: int = Field(ge=0)


class TrainingStage(Strict):
    """One stage as it was really run."""

    name: str
    steps: int = Field(ge=0)
    batch: int = Field(ge=0)
    seconds: float = Field(ge=0)
    machine: str


class Provenance(Strict):
    """Where the weights come from."""

    created: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    tool_version: str
    seed: int
    teachers: tuple[TeacherOrigin, ...]
    data: tuple[TrainingData, ...]
    stages: tuple[TrainingStage, ...]
    notes: str = ""


class PromptManifest(Strict):
    """The manifest of a prompt pack: one safetensors file bound to one codec and one tail."""

    format_version: Literal[1]
    task: Identifier
    codec_digest: Sha256
    tensors: FileEntry
    tail_sha256: Sha256
    digest: Sha256
    sigma_check: Sha256

    @model_validator(mode="after")
    def _digest_is_right(self) -> PromptManifest:
        want = prompt_digest(self.codec_digest, self.task, self.tensors.sha256, self.tail_sha256)
        if self.digest != want:
            raise ValueError(f"digest is {self.digest}, the contents give {want}")
        return self


class Manifest(Strict):
    """manifest.json as a whole."""

    format_version: Literal[1]
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    codec: CodecSection
    codec_digest: Sha256
    tasks: dict[Identifier, TaskSection] = Field(min_length=1, max_length=64)
    picture: GraphEntry | None = None  # image extractor: feature -> picture; no task needs it
    measured: tuple[MeasuredRow, ...]
    provenance: Provenance

    @model_validator(mode="after")
    def _digests_are_right(self) -> Manifest:
        files = self.files()
        if len(set(files)) != len(files):
            raise ValueError(f"files are named twice: {sorted(f for f in set(files) if files.count(f) > 1)}")
        if self.codec_digest != self.codec.digest:
            raise ValueError(
                f"codec_digest is {self.codec_digest}, the codec section gives {self.codec.digest}"
            )
        for task, section in self.tasks.items():
            want = prompt_digest(self.codec_digest, task, section.prompt.sha256, section.tail.sha256)
            if section.prompt.digest != want:
                raise ValueError(
                    f"prompt digest of {task} is {section.prompt.digest}, the contents give {want}"
                )
            if not section.prompt.file.endswith(".safetensors"):
                raise ValueError(f"prompt of {task} is {section.prompt.file}, it must end in .safetensors")
        return self

    def files(self) -> list[str]:
        """Every path the pack holds, the manifest and the model card included."""
        codec = [entry.file for entry in self.codec.graphs.values()]
        tasks = [
            path
            for s in self.tasks.values()
            for path in (s.prompt.file, prompt_manifest_file(s), s.tail.file)
        ]
        picture = [] if self.picture is None else [self.picture.file]
        return [MANIFEST_FILE, MODEL_CARD_FILE, self.codec.tables.file, *codec, *picture, *tasks]

    def prompt_manifest(self, task: str) -> PromptManifest:
        """The prompt manifest that must lie beside the prompt of `task`; KeyError if no such task."""
        section = self.tasks[task]
        return PromptManifest(
            format_version=FORMAT_VERSION,
            task=task,
            codec_digest=self.codec_digest,
            tensors=FileEntry(file=section.prompt.file.rpartition("/")[2], sha256=section.prompt.sha256),
            tail_sha256=section.tail.sha256,
            digest=section.prompt.digest,
            sigma_check=section.prompt.sigma_check,
        )


def prompt_manifest_file(section: TaskSection) -> str:
    """Path of the prompt manifest: the prompt's own path with the ending .json."""
    return section.prompt.file.removesuffix(".safetensors") + ".json"
