"""Put a signature into a pack or prompt pack, a folder or a zip; what cannot be loaded is not signed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from splitcodec.durable import move_durably, write_durably
from splitcodec.errors import InvalidManifest, Unsigned
from splitcodec.packs.files import SIGNATURE_FILE, PackFiles, open_files
from splitcodec.packs.load import load_pack, plain_json
from splitcodec.packs.prompt_pack import PromptPackManifest, parse_prompt_manifest
from splitcodec.packs.schema import MANIFEST_FILE
from splitcodec.packs.signed import open_signed
from splitcodec.signing import Kind, SigningKey, Statement, TrustStore, sign_files
from splitcodec.signing.envelope import Signer, open_envelope, parse_statement


def kind_of(files: PackFiles) -> Kind:
    """What a pack says it is; raises InvalidManifest if its manifest is no JSON object."""
    manifest = json.loads(plain_json(files.read(MANIFEST_FILE), files.label))
    if not isinstance(manifest, dict):
        raise InvalidManifest(f"the manifest of {files.label} is no JSON object; export the pack again")
    return "prompt" if manifest.get("kind") == "prompt" else "pack"


def line_of(place: Path) -> tuple[Kind, str]:
    """The kind of a pack and the name of its line of versions: the pack's, or PACK.TASK of a prompt.

    A pack is loaded with every check; of a prompt pack only the manifest, as its codec is not here. Raises
    PackError and PromptError.
    """
    files = open_files(place)
    if kind_of(files) == "pack":
        return "pack", load_pack(place).name
    manifest: PromptPackManifest = parse_prompt_manifest(files.read(MANIFEST_FILE), files.label)
    return "prompt", f"{manifest.pack}.{manifest.task}"


def sign_pack(
    place: Path,
    keys: Sequence[SigningKey],
    version: int,
    oldest: int | None = None,
    expires: datetime | None = None,
) -> Statement:
    """Sign what is at `place` now and put the signature in, in place of an old one; what was signed."""
    kind, name = line_of(place)
    files = open_files(place)
    contents = {path: files.read(path) for path in files.paths() if path != SIGNATURE_FILE}
    data = sign_files(contents, keys, kind=kind, name=name, version=version, oldest=oldest, expires=expires)
    if place.is_dir():
        write_durably(place / SIGNATURE_FILE, data)
    else:
        _put_into_zip(place, data)
    return statement_of(place)


def statement_of(place: Path) -> Statement:
    """What the signature in a pack says, whether it counts or not; raises PackDamaged, BadSignature."""
    files = open_files(place)
    return parse_statement(open_envelope(files.read(SIGNATURE_FILE), files.label).payload, files.label)


def verify_signature(place: Path, trust: TrustStore) -> Signer:
    """Who signed every file at `place`; raises SignatureError, Unsigned also where trust asks none."""
    files = open_files(place)
    opened = open_signed(files, trust, kind_of(files))
    if opened.signer is None:
        raise Unsigned(f"{files.label} is not signed; sign it with `splitcodec pack sign`")
    for path in opened.paths():
        opened.read(path)
    return opened.signer


def _put_into_zip(place: Path, data: bytes) -> None:
    """Write the zip anew with the signature as its last entry, other entries unchanged."""
    draft = place.with_name(place.name + ".draft")
    with zipfile.ZipFile(place) as old, zipfile.ZipFile(draft, "w") as new:
        for entry in old.infolist():
            if entry.filename != SIGNATURE_FILE:
                new.writestr(entry, old.read(entry))
        signature = zipfile.ZipInfo(SIGNATURE_FILE, (1980, 1, 1, 0, 0, 0))
        signature.external_attr = 0o100644 << 16
        new.writestr(signature, data)
    move_durably(draft, place)
