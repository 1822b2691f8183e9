"""Writes a pack folder: computes the digests, prompt schema and check vectors, then loads it back."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import ValidationError

from splitcodec.entropy import Z_MAX, SymbolTables
from splitcodec.errors import InvalidManifest, PackError
from splitcodec.packs.check import prompt_sigma_check
from splitcodec.packs.convention import InputConvention
from splitcodec.packs.digest import prompt_digest
from splitcodec.packs.load import load_pack
from splitcodec.packs.onnx_graph import read_outline
from splitcodec.packs.schema import (
    GRAPH_INPUTS,
    MANIFEST_FILE,
    MODEL_CARD_FILE,
    CodecSection,
    FileEntry,
    GraphEntry,
    Manifest,
    MeasuredRow,
    PromptEntry,
    Provenance,
    TaskSection,
    prompt_manifest_file,
)
from splitcodec.prompts.schema import RATE_TENSORS, Y_COUNTS, ExactConv, Strict, TensorSpec
from splitcodec.runtime import open_session

Array = NDArray[Any]
PICTURE_FILE: Final = "picture.onnx"


@dataclass(frozen=True)
class TaskContents:
    """One task to be packed: prompt tensors by name (float32 or int32), tail graph, and how to use them."""

    tensors: Mapping[str, Array]
    tail: bytes
    tail_macs_per_pixel: float
    input: InputConvention
    labels: tuple[str, ...]
    postprocess: str


@dataclass(frozen=True)
class PackContents:
    """Everything a pack holds. Channel counts and rate points come from the prompts' rate tensors.

    graphs, macs_per_pixel: by graph name (head, hyper_encoder, scale, quantizer, decoder); exact_bound: by
    convolution, e.g. `h_s_scale.conv0`; measured: rows of the evaluation, may be empty; picture: the image
    extractor, if the pack is to hold it.
    """

    name: str
    graphs: Mapping[str, bytes]
    macs_per_pixel: Mapping[str, float]
    feature_channels: int
    tables: SymbolTables
    exact_bound: Mapping[str, ExactConv]
    tasks: Mapping[str, TaskContents]
    measured: tuple[MeasuredRow, ...]
    provenance: Provenance
    model_card: str
    picture: bytes | None = None
    picture_macs_per_pixel: float = 0.0


def write_pack(folder: Path, contents: PackContents) -> Manifest:
    """Writes `contents` as the pack `folder`, which is replaced as a whole, and returns its manifest.

    The pack is written beside `folder`, loaded with all checks, and only then put in place. Raises the errors
    of `load_pack` (PackError, PromptError) if the contents are not a sound pack, and PackError if they cannot
    be put in place; `folder` is then as it was.
    """
    if not contents.tasks:
        raise InvalidManifest(f"pack {contents.name} has no task; give it at least one")
    files = _codec_files(contents)
    try:
        manifest = _manifest(contents, files)
    except ValidationError as error:
        raise InvalidManifest(f"the contents of pack {contents.name} break the schema: {error}") from error
    files[MODEL_CARD_FILE] = contents.model_card.encode()
    for task, section in manifest.tasks.items():
        files[prompt_manifest_file(section)] = _as_json(manifest.prompt_manifest(task))
    files[MANIFEST_FILE] = _as_json(manifest)
    _replace_folder(folder, files)
    return manifest


def with_measured(folder: Path, measured: tuple[MeasuredRow, ...], model_card: str) -> Manifest:
    """Replaces the measured rows and the model card of a pack; no digest changes. Raises as `load_pack`."""
    pack = load_pack(folder)
    manifest = pack.manifest.model_copy(update={"measured": measured})
    files = {
        path: pack.file_bytes(path)
        for path in manifest.files()
        if path not in (MANIFEST_FILE, MODEL_CARD_FILE)
    }
    files[MODEL_CARD_FILE] = model_card.encode()
    files[MANIFEST_FILE] = _as_json(manifest)
    _replace_folder(folder, files)
    return manifest


def _manifest(contents: PackContents, files: dict[str, bytes]) -> Manifest:
    codec = _codec_section(contents, files)
    return Manifest(
        format_version=1,
        name=contents.name,
        codec=codec,
        codec_digest=codec.digest,
        tasks={task: _task_section(task, contents, codec, files) for task in sorted(contents.tasks)},
        picture=_graph_entry(PICTURE_FILE, files, contents.picture_macs_per_pixel)
        if contents.picture is not None
        else None,
        measured=contents.measured,
        provenance=contents.provenance,
    )


def _codec_files(contents: PackContents) -> dict[str, bytes]:
    if set(contents.graphs) != set(GRAPH_INPUTS):
        raise InvalidManifest(f"graphs are {sorted(contents.graphs)}; a pack holds {sorted(GRAPH_INPUTS)}")
    files = {f"codec/{name}.onnx": data for name, data in contents.graphs.items()}
    files["codec/tables.npz"] = contents.tables.to_npz()
    if contents.picture is not None:
        files[PICTURE_FILE] = contents.picture
    return files


def _codec_section(contents: PackContents, files: Mapping[str, bytes]) -> CodecSection:
    first = next(iter(contents.tasks.values())).tensors
    graphs = {
        name: _graph_entry(f"codec/{name}.onnx", files, contents.macs_per_pixel[name])
        for name in GRAPH_INPUTS
    }
    points, latent_channels = first["rate.gain_y"].shape
    return CodecSection(
        latent_channels=latent_channels,
        hyper_channels=first["rate.gain_z"].shape[1],
        feature_channels=contents.feature_channels,
        size_multiple=32,
        rate_points=points,
        z_max=Z_MAX,
        graphs=graphs,
        tables=FileEntry(file="codec/tables.npz", sha256=_sha256(files["codec/tables.npz"])),
        prompt_schema=_prompt_schema(contents.graphs, first),
        exact_bound=dict(contents.exact_bound),
    )


def _prompt_schema(graphs: Mapping[str, bytes], tensors: Mapping[str, Array]) -> dict[str, TensorSpec]:
    """Shape and dtype of each tensor, and the graphs that have an input of its name."""
    inputs = {name: read_outline(graphs[name], name).inputs for name in GRAPH_INPUTS}
    schema = {}
    for name in sorted(tensors):
        users = (
            ()
            if name in (*RATE_TENSORS, Y_COUNTS)
            else tuple(graph for graph in GRAPH_INPUTS if name in inputs[graph])
        )
        dtype = str(tensors[name].dtype)
        schema[name] = TensorSpec.model_validate(
            {"shape": tensors[name].shape, "dtype": dtype, "graphs": users}
        )
    return schema


def _task_section(
    task: str, contents: PackContents, codec: CodecSection, files: dict[str, bytes]
) -> TaskSection:
    parts = contents.tasks[task]
    prompt_file, tail_file = f"prompts/{task}.safetensors", f"tails/{task}.onnx"
    tensors = {name: np.ascontiguousarray(parts.tensors[name]) for name in sorted(parts.tensors)}
    files[prompt_file] = safetensors.numpy.save(tensors)
    files[tail_file] = parts.tail
    tensors_sha256, tail_sha256 = _sha256(files[prompt_file]), _sha256(parts.tail)
    session = open_session(contents.graphs["scale"], name="scale", exact=True)
    exact = {name: array for name, array in tensors.items() if name in session.input_names}
    return TaskSection(
        prompt=PromptEntry(
            file=prompt_file,
            sha256=tensors_sha256,
            digest=prompt_digest(codec.digest, task, tensors_sha256, tail_sha256),
            sigma_check=prompt_sigma_check(session, exact, tensors["rate.scale_shift"], codec.hyper_channels),
        ),
        tail=_graph_entry(tail_file, files, parts.tail_macs_per_pixel),
        input=parts.input,
        labels=tuple(parts.labels),
        postprocess=parts.postprocess,
    )


def _graph_entry(file: str, files: Mapping[str, bytes], macs_per_pixel: float) -> GraphEntry:
    return GraphEntry(file=file, sha256=_sha256(files[file]), macs_per_pixel=float(macs_per_pixel))


def _as_json(model: Strict) -> bytes:
    return (model.model_dump_json(indent=1) + "\n").encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    fresh, old = staging / "new", staging / "old"
    try:
        for path, data in files.items():
            target = fresh / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        load_pack(fresh)
        _put_in_place(fresh, folder, old)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        if not old.exists():
            shutil.rmtree(staging)


def _put_in_place(fresh: Path, folder: Path, old: Path) -> None:
    """Rename `fresh` to `folder`, what lay there to `old`; PackError says where that is if it does not go."""
    try:
        if folder.exists():
            os.rename(folder, old)
        os.rename(fresh, folder)
    except OSError as error:
        earlier = _put_back(old, folder)
        raise PackError(
            f"the pack cannot be put at {folder} ({error}); {earlier}: see to the disk and repeat"
        ) from error


def _put_back(old: Path, folder: Path) -> str:
    if not old.exists():
        return "the earlier one is untouched" if folder.exists() else "there was none before"
    try:
        os.rename(old, folder)
    except OSError as error:
        return f"the earlier one is kept at {old} ({error})"
    return "the earlier one is there again"
