"""Prompt packs: one task of a pack as one file that travels to services that run (docs/packs.md)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, StringConstraints, ValidationError, model_validator

from splitcodec.durable import write_durably
from splitcodec.errors import InvalidManifest, PackError, PackMismatch, PackNotFound, UnsafePack
from splitcodec.packs.check import check_tail
from splitcodec.packs.digest import prompt_digest
from splitcodec.packs.files import ZipFiles, read_verified
from splitcodec.packs.load import Pack, first_violation, plain_json
from splitcodec.packs.schema import MANIFEST_FILE, CodecSection, MeasuredRow, Provenance, TaskSection
from splitcodec.packs.signed import open_signed
from splitcodec.prompts import Prompt, check_tensors, parse_tensors
from splitcodec.prompts.schema import Identifier, Sha256, Strict
from splitcodec.rate_control import RatePoints

if TYPE_CHECKING:
    from splitcodec.signing import Signer, TrustStore

TENSORS_FILE: Final = "prompt.safetensors"
TAIL_FILE: Final = "tail.onnx"
FILES: Final = (MANIFEST_FILE, TENSORS_FILE, TAIL_FILE)
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # of every entry, so that the same prompt gives the same bytes


class PromptPackManifest(Strict):
    """manifest.json of a prompt pack; `pack` names the pack it was cut from or made for."""

    format_version: Literal[1]
    kind: Literal["prompt"]
    pack: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    codec_digest: Sha256
    task: Identifier
    section: TaskSection
    measured: tuple[MeasuredRow, ...] = Field(max_length=1024)
    provenance: Provenance

    @model_validator(mode="after")
    def _is_consistent(self) -> PromptPackManifest:
        prompt, tail = self.section.prompt, self.section.tail
        if (prompt.file, tail.file) != (TENSORS_FILE, TAIL_FILE):
            raise ValueError(f"files are {prompt.file} and {tail.file}, not {TENSORS_FILE} and {TAIL_FILE}")
        want = prompt_digest(self.codec_digest, self.task, prompt.sha256, tail.sha256)
        if prompt.digest != want:
            raise ValueError(f"prompt digest is {prompt.digest}, the contents give {want}")
        if others := sorted({row.task for row in self.measured} - {self.task}):
            raise ValueError(f"measured rows are of {others}, the prompt is of {self.task}")
        return self

    def rate_points(self, codec: CodecSection) -> RatePoints:
        """Measured bytes against rate, the start of rate control; a typical curve without any."""
        rows = [(row.rate, row.bytes_per_frame) for row in self.measured]
        return RatePoints(float(codec.rate_points - 1), rows)


@dataclass(frozen=True, eq=False)
class PromptPack:
    """A verified prompt pack; tail: ONNX bytes, feature -> the task network's outputs.

    signer: who vouches for it, to be remembered once it serves; None where no signature was asked for.
    """

    manifest: PromptPackManifest
    prompt: Prompt
    tail: bytes
    signer: Signer | None


def load_prompt_pack(
    place: Path, codecs: Mapping[str, CodecSection], trust: TrustStore | None = None
) -> PromptPack:
    """Loads and verifies a prompt pack for one of `codecs` (by hex codec digest).

    Checks, in this order: names and sizes in the zip, the signature where `trust` asks for one, the manifest,
    that the codec is here, that no file is missing or unknown, every SHA-256, and only then the tail and the
    tensors with their exactness bound. Raises PackMismatch for another codec, and the SignatureError,
    PackError and PromptError families.
    """
    if not place.is_file():
        raise PackNotFound(f"there is no prompt pack at {place}; `splitcodec pack prompt` writes one")
    files = open_signed(ZipFiles(place), trust, "prompt")
    present = files.paths()
    manifest = parse_prompt_manifest(files.read(MANIFEST_FILE), files.label)
    codec = codecs.get(manifest.codec_digest)
    if codec is None:
        held = ", ".join(sorted(digest[:16] for digest in codecs))
        raise PackMismatch(
            f"{files.label} was made for codec {manifest.codec_digest[:16]}, this side holds {held}; "
            "take a prompt that was trained on this codec"
        )
    if set(present) != set(FILES):
        raise UnsafePack(f"{files.label} holds {present}; a prompt pack holds {sorted(FILES)}: make it again")
    section = manifest.section
    tensor_bytes = read_verified(files, TENSORS_FILE, section.prompt.sha256)
    tail = read_verified(files, TAIL_FILE, section.tail.sha256)
    check_tail(TAIL_FILE, tail)
    tensors = parse_tensors(tensor_bytes, TENSORS_FILE)
    check_tensors(tensors, codec.prompt_schema, codec.exact_bound, TENSORS_FILE)
    prompt = Prompt(
        task=manifest.task,
        digest=section.prompt.digest,
        tail_sha256=section.tail.sha256,
        sigma_check=section.prompt.sigma_check,
        tensors=tensors,
        schema=codec.prompt_schema,
    )
    return PromptPack(manifest, prompt, tail, files.signer)


def named_in(place: Path) -> tuple[str, str] | None:
    """Task and prompt digest (hex) that a prompt pack claims, unverified; None where it has no manifest."""
    try:
        manifest = parse_prompt_manifest(ZipFiles(place).read(MANIFEST_FILE), place.name)
    except (PackError, OSError):
        return None
    return manifest.task, manifest.section.prompt.digest


def cut_prompt_pack(pack: Pack, task: str) -> bytes:
    """The prompt pack of one task of a pack: the same bytes every time. Raises UnknownTask, PackDamaged."""
    section = pack.task(task)
    manifest = PromptPackManifest(
        format_version=1,
        kind="prompt",
        pack=pack.name,
        codec_digest=pack.codec_digest,
        task=task,
        section=section.model_copy(
            update={
                "prompt": section.prompt.model_copy(update={"file": TENSORS_FILE}),
                "tail": section.tail.model_copy(update={"file": TAIL_FILE}),
            }
        ),
        measured=tuple(row for row in pack.manifest.measured if row.task == task),
        provenance=pack.manifest.provenance,
    )
    return prompt_pack_bytes(manifest, pack.file_bytes(section.prompt.file), pack.tail_bytes(task))


def prompt_pack_bytes(manifest: PromptPackManifest, tensors: bytes, tail: bytes) -> bytes:
    """The file of a prompt pack: a zip of three stored entries with fixed times, so its bytes are too."""
    parts = {
        MANIFEST_FILE: (manifest.model_dump_json(indent=1) + "\n").encode(),
        TENSORS_FILE: tensors,
        TAIL_FILE: tail,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix, wherever it was written
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def write_prompt_pack(pack: Pack, task: str, out: Path) -> PromptPack:
    """Writes the prompt pack of one task of a pack to `out` and loads it. Raises as the two it is made of."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_durably(out, cut_prompt_pack(pack, task))
    return load_prompt_pack(out, {pack.codec_digest: pack.manifest.codec})


def parse_prompt_manifest(data: bytes, label: str) -> PromptPackManifest:
    """The manifest of a prompt pack; raises InvalidManifest."""
    try:
        return PromptPackManifest.model_validate_json(plain_json(data, label))
    except ValidationError as error:
        raise InvalidManifest(
            f"the manifest of {label} breaks the schema: {first_violation(error)}"
        ) from error
