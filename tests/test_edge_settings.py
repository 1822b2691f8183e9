"""Settings of the edge: sources, bounds, and what is refused as unsafe."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from edge.settings import EdgeSettings, load_settings
from splitcodec.errors import SettingsError
from splitcodec.service import is_loopback


def test_flags_come_before_variables_before_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLITCODEC_EDGE_PORT", "1111")
    monkeypatch.setenv("SPLITCODEC_EDGE_CLOUD_TARGET", "127.0.0.1:2222")
    settings = load_settings(["--port", "0"])
    assert (settings.port, settings.cloud_target, settings.task) == (0, "127.0.0.1:2222", "detect")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        EdgeSettings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--port", "70000"], "port"),
        (["--deadline-s", "0"], "deadline_s"),
        (["--rate", "-1"], "rate"),
        (["--device", "a b"], "device"),
        (["--max-picture-pixels", "1000000000"], "max_picture_pixels"),
        (["--tls-cert", "a.pem"], "tls_cert and tls_key go together"),
        (["--tls-client-ca", "a.pem"], "tls_client_ca needs"),
        (["--cloud-cert", "a.pem", "--cloud-key", "b.pem"], "cloud_cert needs cloud_ca"),
    ],
)
def test_bad_settings_are_named(arguments: list[str], word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        load_settings(arguments)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "edge.example"])
def test_a_public_address_needs_client_certificates_or_insecure(host: str) -> None:
    with pytest.raises(SettingsError, match=r"can be reached from outside.*--insecure"):
        load_settings(["--host", host])
    with pytest.raises(SettingsError, match="can be reached from outside"):
        load_settings(["--host", host, "--tls-cert", "c.pem", "--tls-key", "k.pem"])
    assert load_settings(["--host", host, "--insecure"]).host == host
    tls = ["--tls-cert", "c.pem", "--tls-key", "k.pem", "--tls-client-ca", "ca.pem"]
    assert load_settings(["--host", host, *tls]).host == host


def test_a_public_address_may_have_tls_and_tokens_instead() -> None:
    tls = {"tls_cert": Path("c"), "tls_key": Path("k")}
    EdgeSettings(host="0.0.0.0", token_file=Path("t"), **tls)
    for fields in (tls, {"token_file": Path("t")}, {}):
        with pytest.raises(ValidationError, match="can be reached from outside"):
            EdgeSettings(host="0.0.0.0", **fields)


@pytest.mark.parametrize("fields", [{"protect_metrics": True}, {"require_signed_packs": True}], ids=str)
def test_a_protection_without_what_it_needs_is_refused(fields: dict[str, bool]) -> None:
    with pytest.raises(ValidationError, match="needs"):
        EdgeSettings(**fields)


def test_a_cloud_on_another_machine_needs_tls_or_insecure() -> None:
    with pytest.raises(SettingsError, match=r"another machine; set cloud_ca.*--insecure"):
        load_settings(["--cloud-target", "cloud.example:50051"])
    assert load_settings(["--cloud-target", "cloud.example:50051", "--cloud-ca", "ca.pem"]).cloud_ca == Path(
        "ca.pem"
    )
    assert load_settings(["--cloud-target", "cloud.example:50051", "--insecure"]).insecure


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_what_counts_as_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
