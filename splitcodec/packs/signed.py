"""Packs whose files are verified against a signature, read by read, before anything parses them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from splitcodec.packs.files import SIGNATURE_FILE, PackFiles

if TYPE_CHECKING:  # signing needs cryptography, which only services and makers of packs have
    from splitcodec.signing import Kind, Signer, Statement, TrustStore


class SignedFiles:
    """The files of a pack without its signature; `signer` is None for one without that may pass.

    With a signer, every read is checked against the signed digest: what is parsed is what was signed, even
    if the files change meanwhile.
    """

    def __init__(self, files: PackFiles, signer: Signer | None, statement: Statement | None) -> None:
        """Takes what `open_signed` has verified; call that instead."""
        self._files = files
        self._statement = statement
        self.signer = signer
        self.label = files.label

    def paths(self) -> list[str]:
        """See PackFiles; the signature is left out."""
        return [path for path in self._files.paths() if path != SIGNATURE_FILE]

    def read(self, path: str) -> bytes:
        """See PackFiles; raises BadSignature if the file is not the one that was signed."""
        data = self._files.read(path)
        if self._statement is not None:
            from splitcodec.signing import check_digest

            check_digest(self._statement, path, hashlib.sha256(data).hexdigest(), self.label)
        return data


def open_signed(files: PackFiles, trust: TrustStore | None, kind: Kind) -> SignedFiles:
    """The files after their signature was verified; trust None: nobody asks about it.

    Raises Unsigned where trust requires a signature; SignatureError for one that does not count.
    """
    paths = files.paths()
    if trust is None:
        return SignedFiles(files, None, None)
    if SIGNATURE_FILE not in paths:
        trust.admit_unsigned(files.label)
        return SignedFiles(files, None, None)
    from splitcodec.signing import read_statement

    contents = [path for path in paths if path != SIGNATURE_FILE]
    statement, signer = read_statement(files.read(SIGNATURE_FILE), contents, trust, kind, files.label)
    return SignedFiles(files, signer, statement)
