"""The `splitcodec` command. A room that needs an extra is imported inside its command, never at start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from splitcodec import __version__
from splitcodec.bench.command import app as bench_app
from splitcodec.demo import demo_command
from splitcodec.errors import SplitcodecError
from splitcodec.evaluation.command import eval_command
from splitcodec.export.command import export_command, export_teacher_command
from splitcodec.file_command import decode_command, encode_command, inspect_command
from splitcodec.frigate_command import frigate_command
from splitcodec.prompt_command import prompt_app
from splitcodec.publish_command import publish_command
from splitcodec.quarantine_command import quarantine_app
from splitcodec.sign_command import keygen_command, revoke_command, sign_command, verified_signer
from splitcodec.token_command import token_app
from splitcodec.training.command import train_app

FAILED = 1  # exit status: the command ran and says no
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compressed features between a camera box and a server: show, measure, train, export, check.",
)
pack_app = typer.Typer(no_args_is_help=True, help="Look into a pack or verify it.")
app.add_typer(train_app, name="train")
app.add_typer(pack_app, name="pack")
app.add_typer(bench_app, name="bench")
app.add_typer(token_app, name="token")
app.add_typer(prompt_app, name="prompt")
app.add_typer(quarantine_app, name="quarantine")
pack_app.command("keygen")(keygen_command)
pack_app.command("sign")(sign_command)
pack_app.command("revoke")(revoke_command)
app.command("demo")(demo_command)
app.command("encode")(encode_command)
app.command("decode")(decode_command)
app.command("inspect")(inspect_command)
app.command("eval")(eval_command)
app.command("frigate-detector")(frigate_command)
app.command("publish")(publish_command)
app.command("export")(export_command)
app.command("export-teacher")(export_teacher_command)

PackPlace = Annotated[
    str, typer.Argument(help="Pack folder or zip, or `default` for the one inside the library.")
]


def main() -> None:
    """Entry point of the console script; an error raised on purpose is one line on stderr and status 1."""
    try:
        app()
    except SplitcodecError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(FAILED)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    """Compressed features between a camera box and a server: show, measure, train, export, check."""
    if version:
        typer.echo(f"splitcodec {__version__}")
        raise typer.Exit


@pack_app.command("show")
def pack_show(pack: PackPlace = "default") -> None:
    """Print what a pack holds: graphs and their cost, tasks, measured rows, origin of the weights."""
    from splitcodec.packs import load_pack
    from splitcodec.packs.describe import describe

    typer.echo("\n".join(describe(load_pack(pack))))


@pack_app.command("verify")
def pack_verify(
    pack: PackPlace = "default",
    keys: Annotated[
        Path | None, typer.Option(help="Folder of trusted .pub files; the pack must be signed by one.")
    ] = None,
) -> None:
    """Check the signature and every file of a pack, and that this machine computes its exact branch."""
    from splitcodec.codec.exact import ExactScale
    from splitcodec.packs import load_pack

    if keys is not None:
        signer = verified_signer(Path(pack), keys)
        if signer.kind == "prompt":  # its tensors and tail are checked where its codec is
            return
    loaded = load_pack(pack)
    scale = ExactScale(loaded, threads=1)
    for task in loaded.tasks:
        scale.verify(loaded.prompt(task))
    typer.echo(
        f"{loaded.name}: {len(loaded.manifest.files())} files verified, tasks {', '.join(loaded.tasks)} ok"
    )


@pack_app.command("prompt")
def pack_prompt(
    pack: PackPlace,
    task: Annotated[str, typer.Option(help="Task of the pack.")],
    out: Annotated[Path, typer.Option(help="Prompt pack to write (.zip).")],
) -> None:
    """Cut the prompt of one task out of a pack, as one file that running services take."""
    from splitcodec.packs import load_pack
    from splitcodec.packs.prompt_pack import write_prompt_pack

    written = write_prompt_pack(load_pack(pack), task, out)
    digest = written.prompt.digest[:16]
    typer.echo(f"wrote {out}: task {task}, prompt digest {digest}, {out.stat().st_size} bytes")


@app.command("doctor", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def doctor_command(
    context: typer.Context,
    pack: Annotated[str, typer.Option(help="Pack whose graphs are opened.")] = "default",
    engine: Annotated[str, typer.Option(help="Engine to ask for: auto, ort-cpu, ort-cuda, ...")] = "auto",
    service: Annotated[
        Literal["edge", "cloud"] | None,
        typer.Option(help="Check all around this service, by its variables and the flags that follow."),
    ] = None,
    edge: Annotated[
        str | None, typer.Option(help="Ask this running edge what is wrong: http(s)://host:port.")
    ] = None,
    edge_ca: Annotated[Path | None, typer.Option(help="PEM authorities of that edge's certificate.")] = None,
) -> None:
    """Say which engine really runs each graph here, and why not a better one; fails if something is wrong.

    With --service also its folder, disk, clock, ports, certificates, database and cloud. With --edge only
    what a running edge says: spool, oldest frame, link, last error, clock against the cloud's.
    """
    if edge is not None:
        from splitcodec.edge_doctor import examine_edge

        health = examine_edge(edge, edge_ca)
        typer.echo("\n".join(health.lines))
        raise typer.Exit(0 if health.ok else FAILED)
    if service is not None:
        own = [f"--{'pack' if service == 'edge' else 'packs'}={pack}"] if pack != "default" else []
        own += [f"--engine={engine}"] if engine != "auto" else []
        checkup = [sys.executable, "-m", f"{service}.checkup", *own, *context.args]
        raise typer.Exit(subprocess.run(checkup, check=False).returncode)
    if context.args:
        raise typer.BadParameter(f"{context.args[0]!r} is for a service; say --service edge or cloud first")
    from splitcodec.doctor import examine

    report = examine(pack, engine)
    typer.echo("\n".join(report.lines()))
    if not report.ok:
        raise typer.Exit(FAILED)


if __name__ == "__main__":
    main()
