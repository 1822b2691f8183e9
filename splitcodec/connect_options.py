"""What commands that talk to a running service share: who they are, and whom they trust."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from splitcodec.errors import SettingsError

if TYPE_CHECKING:
    from splitcodec.client.credentials import Credentials

Ca = Annotated[Path | None, typer.Option(help="PEM authorities of the other side's certificate.")]
Cert = Annotated[Path | None, typer.Option(help="PEM certificate chain to show to the other side.")]
Key = Annotated[Path | None, typer.Option(help="PEM private key for --cert.")]

MAX_TOKEN_FILE_BYTES: Final = 4096


def credentials(token: str | None, ca: Path | None, cert: Path | None, key: Path | None) -> Credentials:
    """Of the options. SettingsError: they do not go together."""
    from splitcodec.client.credentials import Credentials

    return Credentials(token, ca, cert, key)


def token_in(place: Path) -> str:
    """The bearer token in a file. SettingsError, which never repeats what the file holds."""
    try:
        with place.open("rb") as file:
            text = file.read(MAX_TOKEN_FILE_BYTES + 1).decode("ascii", "replace").strip()
    except OSError as error:
        raise SettingsError(f"the token file {place} cannot be read: {error.strerror}") from error
    if len(text.split()) != 1 or len(text) > MAX_TOKEN_FILE_BYTES:
        raise SettingsError(f"{place} holds no token; put the line of `splitcodec token new` there")
    return text
