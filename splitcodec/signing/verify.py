"""Sign a set of files, and verify them against the signature before anything parses them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from splitcodec.errors import BadSignature
from splitcodec.signing.envelope import Kind, Signer, Statement, open_envelope, seal
from splitcodec.signing.keys import SigningKey
from splitcodec.signing.trust import TrustStore

CHUNK_BYTES: Final = 2**20


def sign_files(
    files: Mapping[str, bytes | Path],
    keys: Sequence[SigningKey],
    *,
    kind: Kind,
    name: str,
    version: int,
    oldest: int | None = None,
    expires: datetime | None = None,
) -> bytes:
    """The signature file of `files`, by path; times in UTC to the second.

    oldest: the oldest version of the line that may run once this one was used; by default this one.
    """
    statement = Statement(
        kind=kind,
        name=name,
        version=version,
        oldest=version if oldest is None else oldest,
        created=datetime.now(timezone.utc).replace(microsecond=0),
        expires=expires,
        files={path: sha256_of(content) for path, content in files.items()},
    )
    return seal(statement, keys)


def verify_files(
    files: Mapping[str, bytes | Path], signature: bytes, trust: TrustStore, kind: Kind
) -> Signer:
    """Who signed exactly these files as a `kind`; nothing of them is parsed.

    Raises BadSignature (also for a file that is missing, extra or changed), SignatureExpired,
    SignatureRevoked or RolledBack. Call `trust.remember` with the answer once the files are in service.
    """
    label = f"this {kind}"
    statement, signer = read_statement(signature, files, trust, kind, label)
    for path, content in files.items():
        check_digest(statement, path, sha256_of(content), label)
    return signer


def read_statement(
    signature: bytes, paths: Iterable[str], trust: TrustStore, kind: Kind, label: str
) -> tuple[Statement, Signer]:
    """The trusted statement about exactly these paths; the caller still has to check each file's digest.

    Raises as verify_files does.
    """
    statement, signer = trust.check(open_envelope(signature, label), kind, label)
    present = set(paths)
    if odd := sorted(present ^ set(statement.files)):
        raise BadSignature(f"{label} lacks, or holds without a signature, {odd[:5]}; fetch it again")
    return statement, signer


def check_digest(statement: Statement, path: str, sha256: str, label: str) -> None:
    """Raises BadSignature unless the file at `path` has the signed SHA-256 (hex)."""
    if statement.files.get(path) != sha256:
        raise BadSignature(f"{label}: {path} is not the file that was signed; fetch it again from its maker")


def sha256_of(content: bytes | Path) -> str:
    """SHA-256, in hex, of bytes or of a file. OSError if the file cannot be read."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    with content.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
