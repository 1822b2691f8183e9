"""`splitcodec prompt list | push | activate | rollback | retire`: the prompts of a cloud or of one edge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splitcodec.connect_options import Ca, Cert, Key, credentials
from splitcodec.extras import needing
from splitcodec.prompt_rollout import follow_rollout

if TYPE_CHECKING:
    from splitcodec.client.answers import EdgePrompt
    from splitcodec.client.edge_prompt_admin import EdgePromptAdmin
    from splitcodec.client.prompt_admin import PromptAdmin, PromptChange

prompt_app = typer.Typer(
    no_args_is_help=True, help="Look at and change the prompts of a cloud, or of an edge."
)
Cloud = Annotated[str, typer.Option(help="host:port of the cloud.")]
Edge = Annotated[str | None, typer.Option(help="http(s)://host:port of an edge, in place of a cloud.")]
Token = Annotated[str | None, typer.Option(envvar="SPLITCODEC_TOKEN", help="Bearer token, scope `prompts`.")]
Task = Annotated[str, typer.Argument(help="Task of the prompt.")]
Digest = Annotated[str, typer.Argument(help="Digest of the prompt, in hex, as `list` shows it.")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait for the devices of the cloud.")]

DEFAULT_CLOUD = "127.0.0.1:50051"
PUBLISH_DEADLINE_S = 120.0
WAIT_S = 30.0


@prompt_app.command("list")
def prompt_list(
    cloud: Cloud = DEFAULT_CLOUD,
    edge: Edge = None,
    token: Token = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Print every prompt: task, digest and state; in a cloud also where it came from, and each device's."""
    if edge is not None:
        with _edge_admin(edge, token, ca, cert, key) as admin:
            for record in admin.states():
                typer.echo(_line(record.task, record.prompt_digest, record.state, record.reason))
        return
    with _admin(cloud, token, ca, cert, key) as cloud_admin:
        held = {one.prompt_digest: one for one in cloud_admin.prompts()}
        for record in cloud_admin.states():
            found, origin = held.get(record.prompt_digest), record.reason
            if found is not None:
                origin = f"{'published' if found.published else 'with the pack'}  {found.pack}"
            typer.echo(_line(record.task, record.prompt_digest, record.state, origin))
        for told in cloud_admin.devices():
            for record in told.records:
                about = _line(record.task, record.prompt_digest, record.state, record.reason)
                typer.echo(f"{told.device}: {about}")


@prompt_app.command("push")
@prompt_app.command("publish", hidden=True)
def prompt_push(
    file: Annotated[Path, typer.Argument(help="Prompt pack, as `splitcodec pack prompt` writes it.")],
    activate: Annotated[bool, typer.Option("--activate", help="Also let its task use it.")] = False,
    wait: Wait = WAIT_S,
    cloud: Cloud = DEFAULT_CLOUD,
    edge: Edge = None,
    token: Token = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Send a prompt pack to a cloud or an edge that runs; with --activate devices change over to it."""
    if edge is not None:
        with _edge_admin(edge, token, ca, cert, key) as admin:
            _say_edge(edge, admin.push(file, activate=activate))
        return
    with _admin(cloud, token, ca, cert, key) as cloud_admin:
        change = cloud_admin.publish(file, activate=activate)
        if activate:
            _say_rollout(cloud_admin, change, wait)
        else:
            typer.echo(f"cloud: prompt {change.prompt.prompt_digest} of task {change.prompt.task} is warm")


@prompt_app.command("activate")
def prompt_activate(
    task: Task,
    digest: Digest,
    wait: Wait = WAIT_S,
    cloud: Cloud = DEFAULT_CLOUD,
    edge: Edge = None,
    token: Token = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Let a task use a prompt from the next frames on: on all edges of a cloud, or on one edge."""
    if edge is not None:
        with _edge_admin(edge, token, ca, cert, key) as admin:
            _say_edge(edge, admin.activate(task, digest))
        return
    with _admin(cloud, token, ca, cert, key) as cloud_admin:
        _say_rollout(cloud_admin, cloud_admin.activate(task, digest), wait)


@prompt_app.command("rollback")
def prompt_rollback(
    task: Task,
    wait: Wait = WAIT_S,
    cloud: Cloud = DEFAULT_CLOUD,
    edge: Edge = None,
    token: Token = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Let a task use the prompt again that it used before; twice is where it began."""
    if edge is not None:
        with _edge_admin(edge, token, ca, cert, key) as admin:
            _say_edge(edge, admin.roll_back(task))
        return
    with _admin(cloud, token, ca, cert, key) as cloud_admin:
        _say_rollout(cloud_admin, cloud_admin.roll_back(task), wait)


@prompt_app.command("retire")
def prompt_retire(
    digest: Digest,
    now: Annotated[bool, typer.Option("--now", help="Do not wait for frames that still come.")] = False,
    cloud: Cloud = DEFAULT_CLOUD,
    edge: Edge = None,
    token: Token = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Let a prompt go; a cloud's still answers frames that were made with it and wait somewhere."""
    gone_at = None
    if edge is not None:
        with _edge_admin(edge, token, ca, cert, key) as admin:
            admin.retire(digest)
    else:
        with _admin(cloud, token, ca, cert, key) as cloud_admin:
            gone_at = cloud_admin.retire(digest, now=now)
    how = "is retired" if gone_at is None else f"drains until {gone_at.isoformat(timespec='seconds')}"
    typer.echo(f"prompt {digest} {how}")


def _line(task: str, digest: str, state: str, more: str) -> str:
    return f"{task:<16}{digest}  {state:<8}  {more}".rstrip()


def _say_edge(edge: str, prompt: EdgePrompt) -> None:
    typer.echo(f"{edge}: prompt {prompt.prompt_digest} of task {prompt.task} is {prompt.state}")


def _say_rollout(admin: PromptAdmin, change: PromptChange, wait_s: float) -> None:
    """Of the cloud, then of each device; a failure anywhere ends the command with 1."""
    digest, task = change.prompt.prompt_digest, change.prompt.task
    typer.echo(f"cloud: prompt {digest} of task {task} is active, before it {change.replaced}")
    if not follow_rollout(admin, change, wait_s, typer.echo):
        raise typer.Exit(1)


def _admin(
    cloud: str, token: str | None, ca: Path | None, cert: Path | None, key: Path | None
) -> PromptAdmin:
    with needing("edge"):
        from splitcodec.client.prompt_admin import PromptAdmin
    login = credentials(token, ca, cert, key)
    return PromptAdmin(cloud, credentials=login, deadline_s=PUBLISH_DEADLINE_S)


def _edge_admin(
    edge: str, token: str | None, ca: Path | None, cert: Path | None, key: Path | None
) -> EdgePromptAdmin:
    with needing("edge"):
        from splitcodec.client.edge_prompt_admin import EdgePromptAdmin
    login = credentials(token, ca, cert, key)
    return EdgePromptAdmin(edge, credentials=login, deadline_s=PUBLISH_DEADLINE_S)
