"""`splitcodec prompt list | publish | activate | retire`: the prompts of a running cloud and its edges."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splitcodec.extras import needing

if TYPE_CHECKING:
    from splitcodec.client.prompt_admin import PromptAdmin

prompt_app = typer.Typer(no_args_is_help=True, help="Look at and change the prompts of a running cloud.")
Cloud = Annotated[str, typer.Option(help="host:port of the cloud.")]
Token = Annotated[str | None, typer.Option(envvar="SPLITCODEC_TOKEN", help="Bearer token, scope `prompts`.")]
Ca = Annotated[Path | None, typer.Option(help="PEM authorities of the cloud's certificate.")]
Cert = Annotated[Path | None, typer.Option(help="PEM certificate chain to show to the cloud.")]
Key = Annotated[Path | None, typer.Option(help="PEM private key for --cert.")]
Digest = Annotated[str, typer.Argument(help="Digest of the prompt, in hex, as `list` shows it.")]

DEFAULT_CLOUD = "127.0.0.1:50051"
PUBLISH_DEADLINE_S = 120.0


@prompt_app.command("list")
def prompt_list(
    cloud: Cloud = DEFAULT_CLOUD, token: Token = None, ca: Ca = None, cert: Cert = None, key: Key = None
) -> None:
    """Print every prompt: task, digest, whether edges use it, and where it came from."""
    with _admin(cloud, token, ca, cert, key) as admin:
        for one in admin.prompts():
            use = "active" if one.active else "staged"
            origin = "published" if one.published else "with the pack"
            typer.echo(f"{one.task:<16}{one.prompt_digest}  {use}  {origin}  {one.pack}")


@prompt_app.command("publish")
def prompt_publish(
    file: Annotated[Path, typer.Argument(help="Prompt pack, as `splitcodec pack prompt` writes it.")],
    activate: Annotated[bool, typer.Option("--activate", help="Also let edges use it.")] = False,
    cloud: Cloud = DEFAULT_CLOUD,
    token: Token = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Send a prompt pack to a running cloud; with --activate its edges fetch it and change over."""
    with _admin(cloud, token, ca, cert, key) as admin:
        change = admin.publish(file, activate=activate)
    back = f"; to go back, activate {change.replaced}" if change.replaced else ""
    typer.echo(f"task {change.prompt.task}: prompt {change.prompt.prompt_digest} is served{back}")


@prompt_app.command("activate")
def prompt_activate(
    task: Annotated[str, typer.Argument(help="Task of the prompt.")],
    digest: Digest,
    cloud: Cloud = DEFAULT_CLOUD,
    token: Token = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Let the edges of a cloud use a prompt for its task from their next frames on; also the way back."""
    with _admin(cloud, token, ca, cert, key) as admin:
        change = admin.activate(task, digest)
    typer.echo(f"task {task}: prompt {change.prompt.prompt_digest} is active, before it {change.replaced}")


@prompt_app.command("retire")
def prompt_retire(
    digest: Digest,
    now: Annotated[bool, typer.Option("--now", help="Do not wait for frames that still come.")] = False,
    cloud: Cloud = DEFAULT_CLOUD,
    token: Token = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Let a published prompt go; until then it answers frames that were made with it and wait somewhere."""
    with _admin(cloud, token, ca, cert, key) as admin:
        gone_at = admin.retire(digest, now=now)
    how = "is retired" if gone_at is None else f"drains until {gone_at.isoformat(timespec='seconds')}"
    typer.echo(f"prompt {digest} {how}")


def _admin(
    cloud: str, token: str | None, ca: Path | None, cert: Path | None, key: Path | None
) -> PromptAdmin:
    with needing("edge"):
        from splitcodec.client.credentials import Credentials
        from splitcodec.client.prompt_admin import PromptAdmin
    return PromptAdmin(cloud, credentials=Credentials(token, ca, cert, key), deadline_s=PUBLISH_DEADLINE_S)
