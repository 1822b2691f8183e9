"""Each fault around a service is made for real, and the doctor names it and says what to do."""

from __future__ import annotations

import datetime
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_helpers import PlainRunner, running
from tiny_pack import write_tiny_pack

from cloud.checkup import troubles as cloud_troubles
from cloud.settings import load_settings as load_cloud
from edge.checkup import troubles as edge_troubles
from edge.settings import load_settings as load_edge
from edge.spool_file import SPOOL_FILE
from splitcodec.checkup import (
    EXPIRY_WARNING_S,
    Trouble,
    check_certificate,
    check_clock,
    check_cloud,
    check_database,
    check_disk,
    check_folder,
    check_port,
)
from splitcodec.readiness import HttpPlace

pytest.importorskip("cryptography", reason="makes the certificates of these tests")

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

MADE = "2026-01-31"
NOWHERE = HttpPlace("127.0.0.1", 1)


def only(found: Iterator[Trouble]) -> Trouble:
    (trouble,) = found
    assert trouble.remedy
    return trouble


def certificate(folder: Path, name: str, days: float) -> tuple[Path, Path]:
    """A self-signed certificate that ends so many days from now, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - datetime.timedelta(days=100))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / f"{name}.crt", folder / f"{name}.key"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert_path, key_path


def test_a_folder_that_can_be_written_or_made_is_no_trouble(tmp_path: Path) -> None:
    assert not list(check_folder(tmp_path, "state_dir"))
    assert not list(check_folder(tmp_path / "not" / "yet", "state_dir"))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/sys").is_dir(), reason="needs a folder that nobody can write")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is not a folder" in only(check_folder(tmp_path / "file" / "state", "state_dir")).what
    trouble = only(check_folder(Path("/proc/sys/state"), "state_dir"))
    assert "state_dir /proc/sys/state cannot be written" in trouble.what
    assert "chown" in trouble.remedy


def test_a_disk_that_is_full_or_too_small_for_the_limits_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.disk_usage(tmp_path)
    assert not list(check_disk(tmp_path / "not" / "yet", 0, "spool_bytes"))
    assert "spool_bytes may need" in only(check_disk(tmp_path, real.free + 10**9, "spool_bytes")).what
    full = type(real)(10**10, 10**10 - 10**6, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: full)
    assert "nearly full: 1 MB of 10,000 MB are free" in only(check_disk(tmp_path, 0, "spool_bytes")).what


def test_a_clock_that_is_behind_is_named(tmp_path: Path) -> None:
    made = datetime.datetime(2026, 1, 31, tzinfo=datetime.timezone.utc).timestamp()
    assert not list(check_clock(MADE, tmp_path / "none", made + 1))
    assert "before the pack was made on 2026-01-31" in only(check_clock(MADE, tmp_path, made - 86_400)).what
    (tmp_path / "state.json").write_text("{}")
    os.utime(tmp_path / "state.json", (made + 10_000, made + 10_000))
    assert not list(check_clock(MADE, tmp_path, made + 20_000))
    trouble = only(check_clock(MADE, tmp_path, made + 1))
    assert "was written to at" in trouble.what
    assert "set the clock" in trouble.remedy


def test_a_taken_port_is_named_with_the_command_that_finds_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        trouble = only(check_port("127.0.0.1", port, "port", NOWHERE))
    assert f"port 127.0.0.1:{port} cannot be bound" in trouble.what
    assert f"sport = :{port}" in trouble.remedy
    assert not list(check_port("127.0.0.1", port, "port", NOWHERE))


async def test_a_port_taken_by_the_running_service_is_no_trouble(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        place = HttpPlace("127.0.0.1", cloud.server.metrics_port)
        assert not list(check_port("127.0.0.1", cloud.server.grpc_port, "port", place))


def test_certificates_out_of_their_time_or_with_another_key_are_named(tmp_path: Path) -> None:
    good, key = certificate(tmp_path, "good", days=90)
    late, late_key = certificate(tmp_path, "late", days=-1)
    soon, soon_key = certificate(tmp_path, "soon", days=EXPIRY_WARNING_S / 86_400 / 2)
    assert not list(check_certificate(good, key, "tls_cert"))
    assert f"tls_cert {late} expired on" in only(check_certificate(late, late_key, "tls_cert")).what
    assert f"tls_cert {soon} expires on" in only(check_certificate(soon, soon_key, "tls_cert")).what
    assert f"{late_key} does not open {good}" in only(check_certificate(good, late_key, "tls_cert")).what
    (tmp_path / "text.crt").write_text("no certificate")
    assert "text.crt" in only(check_certificate(tmp_path / "text.crt", None, "cloud_ca")).what
    assert "gone.crt" in only(check_certificate(tmp_path / "gone.crt", None, "cloud_ca")).what


def test_a_damaged_database_is_named_and_one_that_was_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / SPOOL_FILE
    assert not list(check_database(path, "state_dir"))
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE frames (id INTEGER PRIMARY KEY, bitstream BLOB)")
        connection.executemany("INSERT INTO frames (bitstream) VALUES (?)", [(bytes(3000),)] * 50)
    connection.close()
    assert not list(check_database(path, "state_dir"))
    data = bytearray(path.read_bytes())
    data[4096:20480] = bytes(16384)
    path.write_bytes(data)
    assert f"{path} is damaged" in only(check_database(path, "state_dir")).what
    path.write_bytes(b"not a database at all" * 100)
    assert "not a database" in only(check_database(path, "state_dir")).what
    path.rename(path.with_name(f"{path.stem}.damaged-20260101T000000{path.suffix}"))
    assert "1 damaged file(s) were moved aside" in only(check_database(path, "state_dir")).what


async def test_a_cloud_that_answers_is_no_trouble_and_one_that_does_not_is_named(tmp_path: Path) -> None:
    import asyncio

    async with running(tmp_path, PlainRunner()) as cloud:
        target = f"127.0.0.1:{cloud.server.grpc_port}"
        assert not await asyncio.to_thread(lambda: list(check_cloud(target, None, None, None)))
        metrics = f"127.0.0.1:{cloud.server.metrics_port}"
        (deaf,) = await asyncio.to_thread(lambda: list(check_cloud(metrics, None, None, None)))
        assert "takes connections but not calls" in deaf.what
    trouble = only(check_cloud(target, None, None, None))
    assert f"the cloud {target} cannot be reached (Connection refused)" in trouble.what
    assert "frames wait in the spool" in trouble.remedy
    assert "no-such-host.invalid" in only(check_cloud("no-such-host.invalid:50051", None, None, None)).what


def test_every_fault_of_an_edge_and_a_cloud_is_in_one_report(tmp_path: Path) -> None:
    write_tiny_pack(tmp_path / "pack")
    late, key = certificate(tmp_path, "late", days=-1)
    state = tmp_path / "state"
    state.mkdir()
    (state / SPOOL_FILE).write_bytes(b"no database" * 100)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        tls = [f"--tls-cert={late}", f"--tls-key={key}"]
        edge = load_edge(
            [
                f"--port={port}",
                f"--state-dir={state}",
                f"--pack={tmp_path / 'pack'}",
                "--cloud-target=127.0.0.1:1",
                *tls,
            ]
        )
        found = "\n".join(str(one) for one in edge_troubles(edge))
        cloud = load_cloud(
            [
                f"--port={port}",
                f"--data-dir={tmp_path / 'pack' / 'manifest.json' / 'x'}",
                f"--packs={tmp_path / 'pack'}",
                *tls,
            ]
        )
        also = "\n".join(str(one) for one in cloud_troubles(cloud))
    for words in ("is damaged", f":{port} cannot be bound", "expired on", "127.0.0.1:1 cannot be reached"):
        assert words in found
    for words in ("is not a folder", f":{port} cannot be bound", "expired on"):
        assert words in also


@pytest.mark.slow
def test_doctor_for_a_service_prints_troubles_and_fails(tmp_path: Path) -> None:
    write_tiny_pack(tmp_path / "pack")
    command = [
        sys.executable,
        "-m",
        "splitcodec.cli",
        "doctor",
        "--service",
        "edge",
        f"--pack={tmp_path / 'pack'}",
    ]
    words = [*command, f"--state-dir={tmp_path / 'state'}", "--port=0", "--cloud-target=127.0.0.1:1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "graph head: onnxruntime" in done.stdout
    assert "PROBLEM: the cloud 127.0.0.1:1 cannot be reached" in done.stdout
    missing = subprocess.run([*words, "--engine=tensorrt"], capture_output=True, text=True, check=False)
    assert missing.returncode == 1
    assert "PROBLEM: RuntimeUnavailable" in missing.stdout
