"""Signed packs and prompt packs: verified before anything in them is parsed, by service and by command."""

from __future__ import annotations

import shutil
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from tiny_pack import write_three_tasks
from typer.testing import CliRunner

from cloud.metrics import CloudMetrics
from splitcodec.certificates import export_expiry
from splitcodec.cli import app
from splitcodec.errors import BadSignature, RolledBack, SplitcodecError, Unsigned
from splitcodec.packs import load_pack
from splitcodec.packs.prompt_pack import load_prompt_pack, write_prompt_pack
from splitcodec.packs.sign import sign_pack
from splitcodec.signing import SigningKey, TrustStore
from splitcodec.signing.memory import VersionMemory


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signed") / "tiny"
    write_three_tasks(folder)
    return folder


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def trust(tmp_path: Path, key: SigningKey) -> TrustStore:
    """A service that requires signatures of `key`."""
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / "maker.pub").write_bytes(key.public.pem())
    return TrustStore(tmp_path / "trusted", VersionMemory(tmp_path / "memory.json"), required=True)


@pytest.fixture(params=["folder", "zip"])
def pack(request: pytest.FixtureRequest, sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound pack, not signed."""
    place = tmp_path / "pack"
    if request.param == "folder":
        shutil.copytree(sound, place)
        return place
    return Path(shutil.make_archive(str(place), "zip", sound))


def test_a_signed_pack_loads_and_an_unsigned_one_does_not(
    pack: Path, key: SigningKey, trust: TrustStore
) -> None:
    with pytest.raises(Unsigned, match="require_signed_packs"):
        load_pack(pack, trust)
    sign_pack(pack, [key], 3)
    signer = load_pack(pack, trust).signer
    assert signer is not None
    assert (signer.kind, signer.name, signer.version) == ("pack", "tiny", 3)
    assert load_pack(pack).signer is None  # who does not ask is not told


def test_a_pack_signed_twice_holds_the_last_signature(pack: Path, key: SigningKey, trust: TrustStore) -> None:
    sign_pack(pack, [SigningKey.generate()], 1)
    sign_pack(pack, [key], 2)
    signer = load_pack(pack, trust).signer
    assert signer is not None
    assert signer.version == 2


def test_nothing_of_a_changed_pack_is_parsed(
    sound: Path, tmp_path: Path, key: SigningKey, trust: TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = tmp_path / "pack"
    shutil.copytree(sound, pack)
    sign_pack(pack, [key], 1)
    manifest = (pack / "manifest.json").read_bytes()
    (pack / "manifest.json").write_bytes(manifest.replace(b'"tiny"', b'"evil"'))
    with monkeypatch.context() as patch:
        patch.setattr("splitcodec.packs.load.parse_manifest", lambda *_: pytest.fail("manifest was parsed"))
        with pytest.raises(BadSignature, match=r"manifest\.json is not the file that was signed"):
            load_pack(pack, trust)
    (pack / "manifest.json").write_bytes(manifest)
    (pack / "added.onnx").write_bytes(b"")
    with pytest.raises(BadSignature, match=r"added\.onnx"):
        load_pack(pack, trust)


def test_a_file_that_changes_after_the_load_is_refused_when_it_is_read(
    sound: Path, tmp_path: Path, key: SigningKey, trust: TrustStore
) -> None:
    pack = tmp_path / "pack"
    shutil.copytree(sound, pack)
    sign_pack(pack, [key], 1)
    loaded = load_pack(pack, trust)
    (pack / "MODEL_CARD.md").write_text("# another\n")
    with pytest.raises(BadSignature, match=r"MODEL_CARD\.md"):
        loaded.file_bytes("MODEL_CARD.md")


def test_an_older_pack_is_refused_once_a_newer_one_served(
    sound: Path, tmp_path: Path, key: SigningKey, trust: TrustStore
) -> None:
    for version in (1, 2):
        shutil.copytree(sound, tmp_path / str(version))
        sign_pack(tmp_path / str(version), [key], version)
    trust.remember(load_pack(tmp_path / "2", trust).signer)
    with pytest.raises(RolledBack):
        load_pack(tmp_path / "1", trust)


def test_the_end_of_a_signature_is_in_the_metrics(
    sound: Path, tmp_path: Path, key: SigningKey, trust: TrustStore
) -> None:
    ends = datetime(2100, 1, 1, tzinfo=timezone.utc)
    for version, end in ((1, None), (2, ends)):
        shutil.copytree(sound, tmp_path / str(version))
        sign_pack(tmp_path / str(version), [key], version, oldest=1, expires=end)
    trust.remember(*(load_pack(tmp_path / name, trust).signer for name in ("1", "2")))
    registry = CollectorRegistry()
    export_expiry(CloudMetrics(registry).certificate_expiry, {}, trust.pack_ends)
    name = "splitcodec_certificate_expiry_timestamp_seconds"
    assert registry.get_sample_value(name, {"use": "pack"}) == ends.timestamp()


def test_the_pack_inside_the_library_needs_no_signature(trust: TrustStore) -> None:
    assert load_pack("default", trust).signer is None


def test_prompt_packs_are_signed_the_same_way(
    sound: Path, tmp_path: Path, key: SigningKey, trust: TrustStore
) -> None:
    pack, place = load_pack(sound), tmp_path / "segment.zip"
    codecs = {pack.codec_digest: pack.manifest.codec}
    write_prompt_pack(pack, "segment", place)
    with pytest.raises(Unsigned):
        load_prompt_pack(place, codecs, trust)
    sign_pack(place, [key], 4)
    signer = load_prompt_pack(place, codecs, trust).signer
    assert signer is not None
    assert (signer.kind, signer.name, signer.version) == ("prompt", "tiny.segment", 4)
    assert load_prompt_pack(place, codecs).prompt.task == "segment"
    with zipfile.ZipFile(place, "a") as archive:
        archive.writestr("tail2.onnx", b"")
    with pytest.raises(BadSignature):
        load_prompt_pack(place, codecs, trust)


def splitcodec(*words: object) -> str:
    """Output of a command that succeeds; raises its error."""
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)
    if isinstance(done.exception, SplitcodecError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_commands_make_keys_sign_verify_and_revoke(pack: Path, tmp_path: Path) -> None:
    trusted = tmp_path / "keys"
    trusted.mkdir()
    said = splitcodec("pack", "keygen", trusted / "maker.key")
    key_id = said.split()[1].rstrip(":")
    with pytest.raises(Unsigned):
        splitcodec("pack", "verify", pack, "--keys", trusted)
    assert "ends never" in splitcodec(
        "pack", "sign", pack, "--key", trusted / "maker.key", "--expires", "never"
    )
    said = splitcodec("pack", "verify", pack, "--keys", trusted)
    assert f"signed by {key_id}: pack tiny version 2" in said
    assert "tasks classify, detect, segment ok" in said
    splitcodec("pack", "revoke", "--keys", trusted, "--pack", pack)
    with pytest.raises(SplitcodecError, match="was revoked"):
        splitcodec("pack", "verify", pack, "--keys", trusted)
