"""Bearer tokens: who may do what until when. The file holds hashes, so it lets nobody in.

    sct_<id>_<secret>    id: 12 hex characters, not secret; secret: 256 random bits in base64url
    tokens.json          {"format": 1,
                          "tokens": [{"id", "scopes", "expires", "device", "salt", "sha256"}, ...]}

sha256 is SHA-256(salt + secret), in hex. A slow password hash would add nothing: it makes guessing words
costly, and nobody guesses 256 random bits. The salt keeps tables over many files from being of use.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from splitcodec.durable import write_durably
from splitcodec.errors import NotAuthenticated, NotPermitted, SettingsError
from splitcodec.wire.names import NAME_PATTERN

log = logging.getLogger(__name__)

Scope: TypeAlias = Literal["frames", "results", "prompts", "metrics", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
ALL: Final[Scope] = "admin"
"""The scope that includes every other."""
TOKEN: Final = re.compile(r"sct_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
MAX_HEADER_CHARACTERS: Final = 256
MAX_TOKENS: Final = 10_000
_NOBODY_SALT: Final = bytes(16)


class TokenRecord(BaseModel):
    """What the file keeps of one token. device: the only one whose frames it may send, None any."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]
    scopes: frozenset[Scope] = Field(min_length=1)
    expires: AwareDatetime | None
    device: Annotated[str, StringConstraints(pattern=NAME_PATTERN)] | None = None
    salt: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

    def matches(self, secret: str) -> bool:
        """Whether `secret` is this token's, in a time that does not depend on how much of it is right."""
        return hmac.compare_digest(_hash(bytes.fromhex(self.salt), secret), self.sha256)


class _TokenFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal[1]
    tokens: tuple[TokenRecord, ...] = Field(max_length=MAX_TOKENS)


@dataclass(frozen=True)
class Caller:
    """Who asks: a token that was checked. device: the only device it may send frames of, None any."""

    token_id: str
    scopes: frozenset[Scope]
    device: str | None = None

    def require(self, scopes: Collection[Scope]) -> None:
        """Raises NotPermitted unless the token has one of `scopes`; none of them: any token will do."""
        if scopes and ALL not in self.scopes and not self.scopes & set(scopes):
            needed = " or ".join(sorted(scopes))
            raise NotPermitted(
                f"this needs scope {needed}, token {self.token_id} has {', '.join(sorted(self.scopes))}; "
                "ask the operator for another token"
            )

    def require_device(self, device: str) -> None:
        """Raises NotPermitted if the token may only send frames of another device."""
        if self.device not in (None, device):
            raise NotPermitted(
                f"token {self.token_id} may only send frames of device {self.device}, not of {device}; "
                "ask the operator for another token"
            )


class TokenBook:
    """The tokens in a file, read again when it changes."""

    def __init__(
        self, path: Path, clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    ) -> None:
        """SettingsError: the file cannot be read, is malformed, or others may write it."""
        self._path = path
        self._clock = clock
        self._stamp = _stamp(path)
        self._records = {record.id: record for record in read_tokens(path)}

    def check(self, header: str | None) -> Caller:
        """Who sent this `Authorization` header. Raises NotAuthenticated, which never holds the token."""
        self._reload()
        token = _bearer(header)
        found = TOKEN.fullmatch(token)
        if found is None:
            raise NotAuthenticated(
                "the bearer token is malformed; send the whole line of `splitcodec token new`"
            )
        record = self._records.get(found[1])
        if record is None:
            _hash(_NOBODY_SALT, found[2])  # takes as long as a known one
        if record is None or not record.matches(found[2]):
            raise NotAuthenticated("the bearer token is unknown; ask the operator for one")
        if record.expires is not None and self._clock() >= record.expires:
            raise NotAuthenticated(f"token {record.id} ended {record.expires.isoformat()}; ask for a new one")
        return Caller(record.id, record.scopes, record.device)

    def _reload(self) -> None:
        """Take over a changed file; a broken or missing one is logged once and the tokens in use stay."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._records = {record.id: record for record in read_tokens(self._path)}
        except SettingsError as error:
            log.error("%s; the tokens in use stay", error)
            return
        log.info("%d tokens were read from %s", len(self._records), self._path)


def new_token(
    scopes: Collection[Scope], expires: datetime | None, device: str | None
) -> tuple[str, TokenRecord]:
    """A fresh token, to be shown once, and what is kept of it. SettingsError: bad scopes or device."""
    salt, secret, token_id = secrets.token_bytes(16), secrets.token_urlsafe(32), secrets.token_hex(6)
    try:
        record = TokenRecord.model_validate(
            {
                "id": token_id,
                "scopes": frozenset(scopes),
                "expires": expires,
                "device": device,
                "salt": salt.hex(),
                "sha256": _hash(salt, secret),
            }
        )
    except ValidationError as error:
        raise SettingsError(
            f"scopes {sorted(scopes)} or device {device!r} is malformed; scopes are {', '.join(SCOPES)}"
        ) from error
    return f"sct_{token_id}_{secret}", record


def read_tokens(path: Path) -> tuple[TokenRecord, ...]:
    """Every token of a file. Raises SettingsError, also if others than its owner may write it."""
    try:
        if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise SettingsError(f"others may write the token file {path}; run: chmod go-w {path}")
        return _TokenFile.model_validate_json(path.read_bytes()).tokens
    except OSError as error:
        raise SettingsError(f"the token file {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, detail["loc"])) or "file"
        raise SettingsError(
            f"the token file {path} breaks the format at {where}: {detail['msg']}; see `splitcodec token`"
        ) from None


def write_tokens(path: Path, records: Collection[TokenRecord]) -> None:
    """Replace a token file; only its owner may write it. Raises OSError."""
    entries = [
        {**record.model_dump(mode="json"), "scopes": sorted(record.scopes)}
        for record in sorted(records, key=lambda record: record.id)
    ]
    write_durably(path, json.dumps({"format": 1, "tokens": entries}, indent=1).encode() + b"\n", mode=0o644)


def _bearer(header: str | None) -> str:
    if not header:
        raise NotAuthenticated("this needs a bearer token; send `Authorization: Bearer TOKEN`")
    kind, _, token = header[:MAX_HEADER_CHARACTERS].partition(" ")
    if kind.lower() != "bearer":
        raise NotAuthenticated("only bearer tokens are taken; send `Authorization: Bearer TOKEN`")
    return token.strip()


def _hash(salt: bytes, secret: str) -> str:
    return hashlib.sha256(salt + secret.encode("ascii")).hexdigest()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Differs after every change of the file, its permissions included; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino
