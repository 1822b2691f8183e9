"""Signatures: exactly these files, by a trusted key, in time, not revoked, and no way back."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from splitcodec.errors import BadSignature, RolledBack, SettingsError, SignatureExpired, SignatureRevoked
from splitcodec.lifetime import end_of
from splitcodec.signing import Signer, SigningKey, TrustStore, sign_files, verify_files
from splitcodec.signing.envelope import PAYLOAD_TYPE, open_envelope, pae
from splitcodec.signing.memory import VersionMemory
from splitcodec.signing.trust import read_revoked, write_revoked

NOW = datetime.now(timezone.utc).replace(microsecond=0)
FILES: Mapping[str, bytes] = {"manifest.json": b"{}", "codec/head.onnx": b"graph", "tail.onnx": b"tail"}
Keys = tuple[SigningKey, Path]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """A key, and the folder of a service that trusts it."""
    key, folder = SigningKey.generate(), tmp_path / "trusted"
    folder.mkdir()
    (folder / "maker.pub").write_bytes(key.public.pem())
    return key, folder


def signed(key: SigningKey, version: int = 1, files: Mapping[str, bytes] = FILES, **terms: object) -> bytes:
    return sign_files(dict(files), [key], kind="pack", name="nano", version=version, **terms)


def verify(signature: bytes, trust: TrustStore, files: Mapping[str, bytes] = FILES) -> Signer:
    return verify_files(dict(files), signature, trust, "pack")


def test_the_signed_files_pass_and_say_who_signed_them(keys: Keys, tmp_path: Path) -> None:
    key, folder = keys
    on_disk = tmp_path / "tail.onnx"
    on_disk.write_bytes(FILES["tail.onnx"])
    signer = verify_files({**FILES, "tail.onnx": on_disk}, signed(key, 7), TrustStore(folder), "pack")
    assert (signer.key_id, signer.name, signer.version) == (key.public.key_id, "nano", 7)


@pytest.mark.parametrize(
    "files",
    [
        {**FILES, "tail.onnx": b"other"},
        {path: data for path, data in FILES.items() if path != "tail.onnx"},
        {**FILES, "extra.onnx": b"x"},
        {("moved.onnx" if path == "tail.onnx" else path): data for path, data in FILES.items()},
    ],
    ids=["changed", "missing", "extra", "renamed"],
)
def test_files_other_than_the_signed_ones_are_refused(keys: Keys, files: Mapping[str, bytes]) -> None:
    key, folder = keys
    with pytest.raises(BadSignature):
        verify(signed(key), TrustStore(folder), files)


def test_a_key_that_is_not_trusted_does_not_count(keys: Keys) -> None:
    _, folder = keys
    stranger = SigningKey.generate()
    with pytest.raises(BadSignature, match=stranger.public.key_id):
        verify(signed(stranger), TrustStore(folder))


def test_a_second_signature_counts_while_keys_change(keys: Keys) -> None:
    key, folder = keys
    both = sign_files(dict(FILES), [SigningKey.generate(), key], kind="pack", name="nano", version=1)
    assert verify(both, TrustStore(folder)).key_id == key.public.key_id


def test_every_flipped_bit_of_a_signature_file_is_refused(keys: Keys) -> None:
    key, folder = keys
    good, trust = signed(key), TrustStore(folder)
    wanted = verify(good, trust)
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1
        try:
            found = verify(bytes(bad), trust)
        except BadSignature:
            continue
        # Only what no signature covers may differ: white space, unused bits of base64's last character.
        assert found == wanted, place


def test_the_payload_is_not_read_before_its_signature_is_right(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, folder = keys
    envelope = json.loads(signed(key))
    envelope["payload"] = base64.b64encode(b"{" * 1000).decode()
    monkeypatch.setattr(
        "splitcodec.signing.trust.parse_statement", lambda *_: pytest.fail("payload was read")
    )
    with pytest.raises(BadSignature, match="did not make"):
        verify(json.dumps(envelope).encode(), TrustStore(folder))


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
@example(b"[" * 100_000)
@example(b'{"payloadType":"application/vnd.splitcodec.statement.v1+json","payload":"=","signatures":[]}')
@example(b" " * 300_000)
def test_bytes_that_are_no_signature_are_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(BadSignature):
        open_envelope(data, "a pack")


def test_a_signed_statement_of_another_format_is_refused(keys: Keys) -> None:
    key, folder = keys
    for payload in (b"", b"{}", b"[1]", b'{"format": 2}', b"\xff"):
        sealed = {
            "payloadType": PAYLOAD_TYPE,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [
                {"keyid": key.public.key_id, "sig": base64.b64encode(key.sign(pae(payload))).decode()}
            ],
        }
        with pytest.raises(BadSignature, match="breaks the format"):
            verify(json.dumps(sealed).encode(), TrustStore(folder))


def test_the_signed_bytes_are_those_of_dsse() -> None:
    kind = "application/vnd.splitcodec.statement.v1+json"
    assert pae(b"hello") == f"DSSEv1 {len(kind)} {kind} 5 hello".encode()


def test_a_statement_about_a_prompt_does_not_serve_a_pack(keys: Keys) -> None:
    key, folder = keys
    signature = sign_files(dict(FILES), [key], kind="prompt", name="nano", version=1)
    with pytest.raises(BadSignature, match="cannot serve as a pack"):
        verify(signature, TrustStore(folder))


def test_an_expired_signature_is_refused_also_by_a_clock_that_was_set_back(
    keys: Keys, tmp_path: Path
) -> None:
    key, folder = keys
    memory = VersionMemory(tmp_path / "memory.json")
    old = signed(key, 1, expires=NOW + timedelta(days=1))
    assert verify(old, TrustStore(folder, memory, clock=lambda: NOW)).version == 1
    with pytest.raises(SignatureExpired):
        verify(old, TrustStore(folder, memory, clock=lambda: NOW + timedelta(days=2)))
    later = replace(verify(signed(key, 2, oldest=1), TrustStore(folder)), created=NOW + timedelta(days=2))
    memory.remember([later])
    with pytest.raises(SignatureExpired):
        verify(old, TrustStore(folder, memory, clock=lambda: datetime(1970, 1, 2, tzinfo=timezone.utc)))


def test_revoked_keys_and_revoked_contents_are_refused_at_once(keys: Keys) -> None:
    key, folder = keys
    trust, signature = TrustStore(folder), signed(key)
    signer = verify(signature, trust)
    write_revoked(folder, read_revoked(folder).with_more(set(), {signer.files_digest}))
    with pytest.raises(SignatureRevoked, match="version 1"):
        verify(signature, trust)
    other = {**FILES, "tail.onnx": b"new"}
    assert verify(signed(key, files=other), trust, other).version == 1
    write_revoked(folder, read_revoked(folder).with_more({key.public.key_id}, set()))
    with pytest.raises(SignatureRevoked, match=key.public.key_id):
        verify(signed(key, files=other), trust, other)


def test_an_unreadable_revocation_list_trusts_nothing(keys: Keys) -> None:
    key, folder = keys
    (folder / "revoked.json").write_text("{")
    with pytest.raises(SettingsError, match=r"revoked\.json"):
        verify(signed(key), TrustStore(folder))


def test_a_version_that_served_locks_older_ones_out_also_after_a_restart(keys: Keys, tmp_path: Path) -> None:
    key, folder = keys
    place = tmp_path / "state" / "memory.json"
    trust = TrustStore(folder, VersionMemory(place))
    new = verify(signed(key, 8), trust)
    assert verify(signed(key, 7), trust).version == 7  # 8 never went into service
    trust.remember(new)
    again = TrustStore(folder, VersionMemory(place))
    with pytest.raises(RolledBack, match="below 8"):
        verify(signed(key, 7), again)
    assert verify(signed(key, 8), again) == new
    assert verify_files(
        {"a": b"1"}, sign_files({"a": b"1"}, [key], kind="pack", name="other", version=1), again, "pack"
    )


def test_the_maker_may_leave_older_versions_usable(keys: Keys, tmp_path: Path) -> None:
    key, folder = keys
    trust = TrustStore(folder, VersionMemory(tmp_path / "memory.json"))
    trust.remember(verify(signed(key, 8, oldest=7), trust))
    assert verify(signed(key, 7), trust).version == 7
    with pytest.raises(RolledBack):
        verify(signed(key, 6), trust)


def test_versions_that_refuse_each_other_do_not_start_together(keys: Keys, tmp_path: Path) -> None:
    key, folder = keys
    trust = TrustStore(folder, VersionMemory(tmp_path / "memory.json"))
    old, new = verify(signed(key, 1), trust), verify(signed(key, 2), trust)
    with pytest.raises(RolledBack):
        trust.remember(old, new)
    assert verify(signed(key, 1), trust) == old
    trust.remember(old, verify(signed(key, 2, oldest=1), trust))


def test_one_version_has_one_contents(keys: Keys, tmp_path: Path) -> None:
    key, folder = keys
    trust = TrustStore(folder, VersionMemory(tmp_path / "memory.json"))
    trust.remember(verify(signed(key, 8), trust))
    other = {**FILES, "tail.onnx": b"new"}
    with pytest.raises(RolledBack, match="other contents"):
        verify(signed(key, 8, other), trust, other)


def test_a_damaged_memory_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "memory.json").write_text('{"format": 1, "lines": ')
    with pytest.raises(SettingsError, match="guards against old packs"):
        VersionMemory(tmp_path / "memory.json")


def test_a_folder_without_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"holds no \.pub file"):
        TrustStore(tmp_path)


def test_a_private_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "maker.key"
    SigningKey.generate().write(place, b"secret")
    assert place.stat().st_mode & 0o777 == 0o600
    with pytest.raises(SettingsError, match="passphrase"):
        SigningKey.read(place, b"guess")
    assert SigningKey.read(place, b"secret").public.key_id
    with pytest.raises(SettingsError, match="never overwritten"):
        SigningKey.generate().write(place)
    place.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        SigningKey.read(place, b"secret")


@pytest.mark.parametrize("text", ["90", "d", "0d", "-1d", "1w", "999999999y", "99999y", "1d "])
def test_a_lifetime_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        end_of(text)


def test_lifetimes_are_hours_days_or_years() -> None:
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    for text, days in (("48h", 2), ("90d", 90), ("2y", 730)):
        end = end_of(text)
        assert end is not None
        assert timedelta(0) <= end - before - timedelta(days=days) < timedelta(seconds=60)
    assert end_of("never") is None
