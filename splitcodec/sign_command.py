"""`splitcodec pack keygen | sign | revoke`: the maker's side of signatures. See docs/security.md."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from splitcodec.extras import needing
from splitcodec.lifetime import end_of

if TYPE_CHECKING:
    from splitcodec.signing import Signer

PASSPHRASE_VARIABLE: Final = "SPLITCODEC_KEY_PASSPHRASE"

SignedPlace = Annotated[Path, typer.Argument(help="Pack or prompt pack: a folder or a zip.")]
TrustFolder = Annotated[Path, typer.Option("--keys", help="Folder of trusted .pub files.")]


def keygen_command(
    out: Annotated[Path, typer.Argument(help="File of the private key; the public one gets .pub beside it.")],
) -> None:
    """Make an Ed25519 key pair. SPLITCODEC_KEY_PASSPHRASE, if set, encrypts the private key."""
    with needing("edge"):
        from splitcodec.signing import SigningKey
    key = SigningKey.generate()
    key.write(out, _passphrase())
    public = out.with_name(out.name.removesuffix(".key") + ".pub")
    public.write_bytes(key.public.pem())
    typer.echo(f"key {key.public.key_id}: keep {out} secret, copy {public} into the services' trusted_keys")


def sign_command(
    pack: SignedPlace,
    key: Annotated[list[Path], typer.Option("--key", help="Private key file; may be repeated.")],
    version: Annotated[
        int | None, typer.Option(min=1, help="Version of the line; by default the time, YYYYMMDDhhmmss.")
    ] = None,
    oldest: Annotated[
        int | None,
        typer.Option(min=1, help="Oldest version that may run after this one; by default this one."),
    ] = None,
    expires: Annotated[str, typer.Option(help="Lifetime of the signature: 90d, 2y, never.")] = "2y",
) -> None:
    """Check a pack and sign every file of it; the signature goes into the pack as signature.json."""
    with needing("edge"):
        from splitcodec.packs.sign import sign_pack
        from splitcodec.signing import SigningKey
    keys = [SigningKey.read(path, _passphrase()) for path in key]
    chosen = version or int(datetime.now(timezone.utc).strftime("%Y%m%d%H%M%S"))
    done = sign_pack(pack, keys, chosen, oldest, end_of(expires))
    end = done.expires.isoformat() if done.expires else "never"
    typer.echo(
        f"signed {done.kind} {done.name} version {done.version} (oldest {done.oldest}), {len(done.files)} "
        f"files, ends {end}, files digest {done.files_digest}"
    )


def revoke_command(
    keys: TrustFolder,
    key: Annotated[list[str] | None, typer.Option("--key", help="Id of a key, 16 hex characters.")] = None,
    pack: Annotated[list[Path] | None, typer.Option("--pack", help="A signed pack to refuse.")] = None,
) -> None:
    """Add keys or packs to the revocation list of a folder of trusted keys; services read it at each use."""
    with needing("edge"):
        from splitcodec.packs.sign import statement_of
        from splitcodec.signing.trust import read_revoked, write_revoked
    digests = {statement_of(place).files_digest for place in pack or ()}
    write_revoked(keys, read_revoked(keys).with_more(set(key or ()), digests))
    typer.echo(f"revoked {len(key or ())} keys and {len(digests)} packs in {keys}")


def verified_signer(pack: Path, keys: Path) -> Signer:
    """Who signed every file of a pack, also printed; SignatureError unless a key in `keys` did."""
    with needing("edge"):
        from splitcodec.packs.sign import verify_signature
        from splitcodec.signing import TrustStore
    signer = verify_signature(pack, TrustStore(keys, required=True))
    end = signer.expires.isoformat() if signer.expires else "never"
    typer.echo(f"signed by {signer.key_id}: {signer.kind} {signer.name} version {signer.version}, ends {end}")
    return signer


def _passphrase() -> bytes | None:
    return os.environb.get(PASSPHRASE_VARIABLE.encode()) or None
