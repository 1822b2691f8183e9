"""Whose signatures count here: a folder of public keys, and a list of what was revoked.

    trusted/*.pub         Ed25519 public keys in PEM
    trusted/revoked.json  {"keys": [KEY_ID, ...], "files": [FILES_DIGEST, ...]}

The folder is read for every verification, so an added or revoked key counts at once. Nothing is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from splitcodec.durable import write_durably
from splitcodec.errors import (
    BadSignature,
    SettingsError,
    SignatureExpired,
    SignatureRevoked,
    Unsigned,
)
from splitcodec.signing.envelope import Envelope, Kind, Signer, Statement, parse_statement
from splitcodec.signing.keys import VerifyKey
from splitcodec.signing.memory import VersionMemory

REVOKED_FILE: Final = "revoked.json"
MAX_KEYS: Final = 256


class Revoked(BaseModel):
    """Key ids and files digests that no longer count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: frozenset[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]] = frozenset()
    files: frozenset[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]] = frozenset()

    def with_more(self, keys: set[str], files: set[str]) -> Revoked:
        """This list and more. SettingsError: something is no key id or digest."""
        try:
            return Revoked.model_validate({"keys": self.keys | keys, "files": self.files | files})
        except ValidationError as error:
            raise SettingsError(
                f"{sorted(keys)} are not all key ids of 16 hex characters; see `splitcodec pack keygen`"
            ) from error


class TrustStore:
    """The keys in a folder, and what this machine has used before."""

    def __init__(
        self,
        folder: Path,
        memory: VersionMemory | None = None,
        required: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        """required: contents without a signature are refused; memory: None allows any signed version.

        SettingsError: the folder holds no usable key.
        """
        self._folder = folder
        self._memory = memory
        self._clock = clock
        self.required = required
        self.pack_ends: datetime | None = None
        """When the first signature of a pack in service ends; that pack is refused at the next start."""
        if not self._keys():
            raise SettingsError(
                f"trusted_keys {folder} holds no .pub file; copy one of `splitcodec pack keygen` there"
            )

    def check(self, envelope: Envelope, kind: Kind, label: str) -> tuple[Statement, Signer]:
        """The statement in an envelope that a trusted key signed and that counts now.

        Raises BadSignature, SignatureExpired, SignatureRevoked or RolledBack.
        """
        revoked = read_revoked(self._folder)
        key = self._signing_key(envelope, revoked, label)
        statement = parse_statement(envelope.payload, label)
        if statement.kind != kind:
            raise BadSignature(f"{label} is signed as a {statement.kind} and cannot serve as a {kind}")
        if statement.files_digest in revoked.files:
            raise SignatureRevoked(
                f"{label}, {statement.name} version {statement.version}, was revoked; deploy another version"
            )
        self._check_time(statement, label)
        signer = _signer(key, statement)
        if self._memory is not None:
            self._memory.check(signer)
        return statement, signer

    def remember(self, *signers: Signer | None) -> None:
        """Note that what these signed is in service together: older versions may now be refused.

        Raises RolledBack if one of them refuses another, and notes nothing then.
        """
        known = [signer for signer in signers if signer is not None]
        if self._memory is not None and known:
            self._memory.remember(known)
        ends = [one.expires for one in known if one.kind == "pack" and one.expires is not None]
        self.pack_ends = min([*ends, *filter(None, [self.pack_ends])], default=None)

    def without_memory(self) -> TrustStore:
        """The same keys for what this service took in before and kept: an old one is no roll-back."""
        return TrustStore(self._folder, None, self.required, self._clock)

    def admit_unsigned(self, label: str) -> None:
        """Raises Unsigned where signatures are required."""
        if self.required:
            raise Unsigned(
                f"{label} is not signed and require_signed_packs is on; sign it with `splitcodec pack sign`"
            )

    def _signing_key(self, envelope: Envelope, revoked: Revoked, label: str) -> VerifyKey:
        """The first trusted key whose signature is right; one wrong signature of such a key refuses all."""
        keys = self._keys()
        message = envelope.message
        signed = [keys[one.key_id] for one in envelope.signatures if one.key_id in keys]
        for one in envelope.signatures:
            if one.key_id in keys and not keys[one.key_id].verifies(one.sig, message):
                raise BadSignature(
                    f"{label} has a signature that key {one.key_id} did not make; get it from its maker again"
                )
        if not signed:
            names = ", ".join(one.key_id for one in envelope.signatures)
            raise BadSignature(
                f"{label} is signed by {names}, no key in {self._folder}; add the key if you trust it"
            )
        for key in signed:
            if key.key_id not in revoked.keys:
                return key
        raise SignatureRevoked(
            f"the key {signed[0].key_id} that signed {label} was revoked; sign with another"
        )

    def _check_time(self, statement: Statement, label: str) -> None:
        now = self._clock()
        if self._memory is not None and self._memory.newest_created is not None:
            now = max(now, self._memory.newest_created)  # a clock set back does not bring anything back
        if statement.expires is not None and now >= statement.expires:
            raise SignatureExpired(
                f"the signature of {label} ended {statement.expires.isoformat()}, it is {now.isoformat()}; "
                "sign it again, or set the clock"
            )

    def _keys(self) -> dict[str, VerifyKey]:
        """Every key of the folder by its id. SettingsError."""
        try:
            paths = sorted(self._folder.glob("*.pub"))
        except OSError as error:
            raise SettingsError(f"trusted_keys {self._folder} cannot be read: {error.strerror}") from error
        if len(paths) > MAX_KEYS:
            raise SettingsError(
                f"trusted_keys {self._folder} holds {len(paths)} keys; the limit is {MAX_KEYS}"
            )
        keys = [VerifyKey.read(path) for path in paths]
        return {key.key_id: key for key in keys}


def read_revoked(folder: Path) -> Revoked:
    """The revocation list of a folder of keys, empty without one; raises SettingsError if unreadable."""
    path = folder / REVOKED_FILE
    try:
        return Revoked.model_validate_json(path.read_bytes()) if path.exists() else Revoked()
    except (OSError, ValidationError) as error:
        raise SettingsError(
            f"the revocation list {path} cannot be read ({type(error).__name__}); nothing is trusted now"
        ) from error


def write_revoked(folder: Path, revoked: Revoked) -> None:
    """Replace the revocation list of a folder of keys. Raises OSError."""
    listed = {"keys": sorted(revoked.keys), "files": sorted(revoked.files)}
    write_durably(folder / REVOKED_FILE, json.dumps(listed, indent=1).encode() + b"\n")


def _signer(key: VerifyKey, statement: Statement) -> Signer:
    return Signer(
        key_id=key.key_id,
        kind=statement.kind,
        name=statement.name,
        version=statement.version,
        oldest=statement.oldest,
        created=statement.created,
        expires=statement.expires,
        files_digest=statement.files_digest,
    )
