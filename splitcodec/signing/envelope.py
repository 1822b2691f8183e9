"""The signature file: a statement about files, and who signed it, in a DSSE envelope.

    file            {"payloadType": TYPE, "payload": BASE64, "signatures": [{"keyid": ID, "sig": BASE64}]}
    signed bytes    "DSSEv1 " len(TYPE) " " TYPE " " len(payload) " " payload     (lengths in decimal ASCII)
    payload         the statement as canonical JSON: sorted keys, no spaces, ASCII

DSSE (secure-systems-lab/dsse) signs the payload's bytes, so they are verified before anything reads them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from splitcodec.errors import BadSignature
from splitcodec.signing.keys import SigningKey

PAYLOAD_TYPE: Final = "application/vnd.splitcodec.statement.v1+json"
MAX_SIGNATURE_BYTES: Final = 2**18
MAX_FILES: Final = 1024
MAX_SIGNATURES: Final = 8

Kind: TypeAlias = Literal["pack", "prompt"]
Sha256Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
LineName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]
Version = Annotated[int, Field(ge=1, le=2**53)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Statement(_Frozen):
    """What is signed: these files are version `version` of the line `name`.

    oldest: the oldest version of the line that may still run once this one was used; equal to `version`,
    there is no way back. files: SHA-256 in hex by path. expires: None never.
    """

    format: Literal[1] = 1
    kind: Kind
    name: LineName
    version: Version
    oldest: Version
    created: AwareDatetime
    expires: AwareDatetime | None
    files: dict[FileName, Sha256Hex] = Field(min_length=1, max_length=MAX_FILES)

    @model_validator(mode="after")
    def _is_ordered(self) -> Statement:
        if self.oldest > self.version:
            raise ValueError(f"oldest {self.oldest} is above version {self.version}")
        return self

    @property
    def files_digest(self) -> str:
        """SHA-256, in hex, of the table of files: the same for the same contents, whoever signed when."""
        return hashlib.sha256(_canonical(self.files)).hexdigest()

    def payload(self) -> bytes:
        """The bytes that are signed, without the envelope."""
        return _canonical(self.model_dump(mode="json"))


@dataclass(frozen=True)
class Signer:
    """A verified signature: whose, of what, until when. files_digest: see Statement."""

    key_id: str
    kind: Kind
    name: str
    version: int
    oldest: int
    created: datetime
    expires: datetime | None
    files_digest: str


@dataclass(frozen=True)
class Signature:
    """One signature of an envelope, not verified yet."""

    key_id: str
    sig: bytes


@dataclass(frozen=True)
class Envelope:
    """An envelope taken apart; nothing in it is verified yet."""

    payload: bytes
    signatures: tuple[Signature, ...]

    @property
    def message(self) -> bytes:
        """The bytes that each signature covers."""
        return pae(self.payload)


class _WireSignature(_Frozen):
    keyid: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    sig: Annotated[str, StringConstraints(max_length=200)]


class _WireEnvelope(_Frozen):
    payloadType: Literal["application/vnd.splitcodec.statement.v1+json"]
    payload: str
    signatures: tuple[_WireSignature, ...] = Field(min_length=1, max_length=MAX_SIGNATURES)


def seal(statement: Statement, keys: Sequence[SigningKey]) -> bytes:
    """The signature file of a statement, signed with every key."""
    payload = statement.payload()
    entries = [
        {"keyid": key.public.key_id, "sig": base64.b64encode(key.sign(pae(payload))).decode()} for key in keys
    ]
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": entries,
    }
    return json.dumps(envelope, indent=1).encode() + b"\n"


def open_envelope(data: bytes, label: str) -> Envelope:
    """Take a signature file apart; raises BadSignature. The payload stays unread."""
    if len(data) > MAX_SIGNATURE_BYTES:
        raise BadSignature(
            f"the signature of {label} has {len(data)} bytes; the limit is {MAX_SIGNATURE_BYTES}"
        )
    try:
        wire = _WireEnvelope.model_validate_json(data)
        payload = base64.b64decode(wire.payload, validate=True)
        signatures = tuple(
            Signature(s.keyid, base64.b64decode(s.sig, validate=True)) for s in wire.signatures
        )
    except (ValidationError, binascii.Error, ValueError) as error:
        raise BadSignature(
            f"the signature of {label} is no DSSE envelope of this format; sign it again"
        ) from error
    return Envelope(payload, signatures)


def parse_statement(payload: bytes, label: str) -> Statement:
    """The statement in a payload whose signature was verified; raises BadSignature."""
    try:
        return Statement.model_validate_json(payload)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, detail["loc"])) or "statement"
        raise BadSignature(
            f"the signed statement of {label} breaks the format ({where}: {detail['msg']}); "
            "update this side or sign again"
        ) from error


def pae(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding of a payload of our type."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")
