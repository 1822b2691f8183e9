"""Loads a pack: every file checked against the manifest before anything parses it; opens no session."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from splitcodec.entropy import SIGMA_LEVELS, SymbolTables
from splitcodec.errors import InvalidManifest, InvalidTables, SettingsError, UnknownTask, UnsafePack
from splitcodec.packs.check import check_graph, check_picture, check_tail
from splitcodec.packs.digest import wire_digest
from splitcodec.packs.files import PackFiles, open_files, read_verified
from splitcodec.packs.schema import (
    GRAPH_INPUTS,
    MANIFEST_FILE,
    Manifest,
    PromptManifest,
    TaskSection,
    prompt_manifest_file,
)
from splitcodec.packs.signed import open_signed
from splitcodec.prompts import Prompt, check_tensors, parse_tensors
from splitcodec.prompts.schema import GraphName

if TYPE_CHECKING:
    from splitcodec.signing import Signer, TrustStore

DEFAULT_PACK: Final = Path(__file__).parent / "default"


class Pack:
    """A verified pack. Graph and tail bytes are read, and verified again, when they are asked for."""

    def __init__(
        self,
        files: PackFiles,
        manifest: Manifest,
        tables: SymbolTables,
        prompts: Mapping[str, Prompt],
        signer: Signer | None = None,
        holds: bool = False,
    ) -> None:
        """Takes what `load_pack` has verified; call that instead. signer: None if nobody asked or signed."""
        self.holds = holds
        """Whether frames may hold cells of the one before."""
        self._files = files
        self.signer = signer
        self.manifest = manifest
        self.tables = tables
        self.prompts: Mapping[str, Prompt] = MappingProxyType(dict(prompts))
        shas = {
            entry.file: entry.sha256 for entry in (*manifest.codec.graphs.values(), manifest.codec.tables)
        }
        if manifest.picture is not None:
            shas[manifest.picture.file] = manifest.picture.sha256
        for section in manifest.tasks.values():
            shas |= {entry.file: entry.sha256 for entry in (section.prompt, section.tail)}
        self._sha256 = shas

    @property
    def name(self) -> str:
        """The pack's own name, for people."""
        return self.manifest.name

    @property
    def codec_digest(self) -> str:
        """SHA-256, in hex, of the codec section."""
        return self.manifest.codec_digest

    @property
    def wire_digest(self) -> bytes:
        """The 8 bytes that name this codec in a bitstream header."""
        return wire_digest(self.codec_digest)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, sorted."""
        return tuple(sorted(self.manifest.tasks))

    def check_holds(self) -> None:
        """SettingsError: the pack cannot hold cells."""
        if not self.holds:
            raise SettingsError(f"pack {self.name} cannot hold cells; export it again with this version")

    def task(self, task: str) -> TaskSection:
        """Input convention, labels, postprocess and tail entry of a task; raises UnknownTask."""
        section = self.manifest.tasks.get(task)
        if section is None:
            raise UnknownTask(f"pack {self.name} has no task {task!r}; its tasks are {list(self.tasks)}")
        return section

    def prompt(self, task: str) -> Prompt:
        """The verified prompt of a task; raises UnknownTask."""
        self.task(task)
        return self.prompts[task]

    def tables_of(self, prompt: Prompt) -> SymbolTables:
        """The symbol tables a prompt's bitstreams are coded with: its own, else those of the pack."""
        return self.tables if prompt.tables is None else prompt.tables

    def graph_bytes(self, name: GraphName) -> bytes:
        """ONNX bytes of a codec graph; raises PackDamaged if the file changed since the pack was loaded."""
        return self.file_bytes(self.manifest.codec.graphs[name].file)

    def tail_bytes(self, task: str) -> bytes:
        """ONNX bytes of a task's tail; raises UnknownTask, or PackDamaged if the file changed."""
        return self.file_bytes(self.task(task).tail.file)

    def picture_bytes(self) -> bytes | None:
        """ONNX bytes of the image extractor, None if the pack has none; PackDamaged if the file changed."""
        entry = self.manifest.picture
        return None if entry is None else self.file_bytes(entry.file)

    def file_bytes(self, path: str) -> bytes:
        """Bytes of any file of the pack, verified where the manifest gives a SHA-256."""
        sha256 = self._sha256.get(path)
        return self._files.read(path) if sha256 is None else read_verified(self._files, path, sha256)


def load_pack(place: Path | str = "default", trust: TrustStore | None = None) -> Pack:
    """Loads and verifies the pack at `place`: a folder, a zip, or "default" for the one inside the library.

    trust: whose signatures count; the pack inside the library needs none, it came with this code. Checks, in
    this order: file names and kinds, sizes, the signature, the manifest, that no file is missing or unknown,
    every SHA-256, and only then graphs (standard operators, embedded weights, the contract's inputs), tables,
    and prompts with their exactness bound. Raises SignatureError, PackError and PromptError families.
    """
    files = open_signed(
        open_files(DEFAULT_PACK if place == "default" else Path(place)),
        None if place == "default" else trust,
        "pack",
    )
    present = files.paths()
    manifest = parse_manifest(files.read(MANIFEST_FILE), files.label)
    if unknown := sorted(set(present) - set(manifest.files())):
        raise UnsafePack(f"{files.label} holds files its manifest does not name: {unknown}; remove them")
    codec = manifest.codec
    blobs = {e.file: read_verified(files, e.file, e.sha256) for e in (*codec.graphs.values(), codec.tables)}
    holding = {name for name in GRAPH_INPUTS if check_graph(name, blobs[codec.graphs[name].file], codec)}
    if len(holding) == 1:
        raise InvalidManifest(f"only the {min(holding)} graph can hold cells; export the pack again")
    if (picture := manifest.picture) is not None:
        check_picture(picture.file, read_verified(files, picture.file, picture.sha256))
    tables = SymbolTables.from_npz(blobs[codec.tables.file])
    if tables.levels != SIGMA_LEVELS:
        raise InvalidTables(
            f"{files.label} has {tables.levels} y tables, need {SIGMA_LEVELS}; export it again"
        )
    prompts = {task: _load_task(files, manifest, task) for task in manifest.tasks}
    return Pack(files, manifest, tables, prompts, files.signer, bool(holding))


def parse_manifest(data: bytes, label: str) -> Manifest:
    """The manifest in `data` (JSON, no key twice); raises InvalidManifest."""
    try:
        return Manifest.model_validate_json(plain_json(data, label))
    except ValidationError as error:
        raise InvalidManifest(
            f"the manifest of {label} breaks the schema: {first_violation(error)}"
        ) from error


def _load_task(files: PackFiles, manifest: Manifest, task: str) -> Prompt:
    section = manifest.tasks[task]
    path = prompt_manifest_file(section)
    try:
        beside = PromptManifest.model_validate_json(plain_json(files.read(path), files.label))
    except ValidationError as error:
        raise InvalidManifest(f"{files.label}: {path} breaks the schema: {first_violation(error)}") from error
    if beside != manifest.prompt_manifest(task):
        raise InvalidManifest(f"{files.label}: {path} and the pack's manifest differ; export the pack again")
    check_tail(section.tail.file, read_verified(files, section.tail.file, section.tail.sha256))
    tensors = parse_tensors(
        read_verified(files, section.prompt.file, section.prompt.sha256), section.prompt.file
    )
    check_tensors(tensors, manifest.codec.prompt_schema, manifest.codec.exact_bound, section.prompt.file)
    return Prompt(
        task=task,
        digest=section.prompt.digest,
        tail_sha256=section.tail.sha256,
        sigma_check=section.prompt.sigma_check,
        tensors=tensors,
        schema=manifest.codec.prompt_schema,
    )


def plain_json(data: bytes, label: str) -> bytes:
    """`data` if it is JSON without a repeated key, which two readers could understand differently."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) != len(keys):
            raise ValueError(f"keys repeat: {sorted(key for key in set(keys) if keys.count(key) > 1)}")
        return dict(pairs)

    try:
        json.loads(data, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise InvalidManifest(
            f"a manifest of {label} is not plain JSON ({error}); export the pack again"
        ) from error
    return data


def first_violation(error: ValidationError) -> str:
    """The first violation, on one line."""
    detail = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, detail['loc'])) or 'manifest'}: {detail['msg']}"
