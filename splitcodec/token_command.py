"""`splitcodec token new | list | revoke`: the operator's side of bearer tokens. See docs/security.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from splitcodec.errors import SettingsError
from splitcodec.lifetime import end_of
from splitcodec.tokens import SCOPES, Scope, new_token, read_tokens, write_tokens

token_app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the bearer tokens of a service.")
TokenFile = Annotated[Path, typer.Option("--file", help="Token file of the services.")]


@token_app.command("new")
def token_new(
    file: TokenFile,
    scopes: Annotated[str, typer.Option(help=f"What it may do, separated by commas: {', '.join(SCOPES)}.")],
    expires: Annotated[str, typer.Option(help="Lifetime: 12h, 90d, 2y, never.")] = "90d",
    device: Annotated[str | None, typer.Option(help="The only device whose frames it may send.")] = None,
) -> None:
    """Add a token to the file and print it, once: the file keeps a hash. Services read the file anew."""
    wanted: list[Scope] = [scope for scope in SCOPES if scope in scopes.split(",")]
    if unknown := sorted(set(scopes.split(",")) - set(SCOPES)):
        raise SettingsError(f"scopes {unknown} do not exist; choose from {', '.join(SCOPES)}")
    records = read_tokens(file) if file.exists() else ()
    token, record = new_token(wanted, end_of(expires), device)
    write_tokens(file, (*records, record))
    end = record.expires.isoformat() if record.expires else "never"
    typer.echo(f"token {record.id} with {', '.join(wanted)} ends {end}; it is shown only now:", err=True)
    typer.echo(token)


@token_app.command("list")
def token_list(file: TokenFile) -> None:
    """Print id, scopes, device and end of every token in the file."""
    for record in read_tokens(file):
        end = record.expires.isoformat() if record.expires else "never"
        typer.echo(
            f"{record.id}  {','.join(sorted(record.scopes))}  {record.device or 'any device'}  ends {end}"
        )


@token_app.command("revoke")
def token_revoke(token_id: Annotated[str, typer.Argument(help="Id of the token.")], file: TokenFile) -> None:
    """Remove a token; services notice at the next request."""
    records = read_tokens(file)
    kept = [record for record in records if record.id != token_id]
    if len(kept) == len(records):
        raise SettingsError(f"{file} has no token {token_id!r}; `splitcodec token list` shows them")
    write_tokens(file, kept)
    typer.echo(f"revoked {token_id}; {len(kept)} tokens are left")
