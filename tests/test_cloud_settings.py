"""Settings of the cloud service: where they come from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from cloud.settings import CloudSettings, load_settings
from splitcodec.errors import SettingsError

TLS = {"tls_cert": Path("c.pem"), "tls_key": Path("k.pem")}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("SPLITCODEC_CLOUD_"):
            monkeypatch.delenv(name)


def test_flags_win_over_the_environment_and_the_environment_over_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPLITCODEC_CLOUD_PORT", "7001")
    monkeypatch.setenv("SPLITCODEC_CLOUD_PACKS", "default, /srv/other")
    monkeypatch.setenv("SPLITCODEC_CLOUD_RETENTION_DAYS", "2")
    settings = load_settings(["--port", "7002", "--data-dir", "/srv/data", "--insecure"])
    assert settings.port == 7002
    assert settings.packs == ("default", "/srv/other")
    assert settings.retention_days == 2
    assert settings.data_dir == Path("/srv/data")
    assert settings.insecure
    assert settings.max_batch == CloudSettings().max_batch


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "70000"], "port"),
        (["--port", "http"], "port"),
        (["--workers", "0"], "workers"),
        (["--packs", ","], "packs"),
        (["--no-such-flag", "1"], "no-such-flag"),
    ],
)
def test_bad_settings_are_named(arguments: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load_settings(arguments)


@pytest.mark.parametrize("name", ["host", "metrics_host"])
@pytest.mark.parametrize("tls", [{}, TLS], ids=["plain", "tls-without-client-certificates"])
def test_a_public_address_without_client_certificates_is_refused(name: str, tls: dict[str, Path]) -> None:
    with pytest.raises(ValidationError, match="can be reached from outside"):
        CloudSettings(**{name: "0.0.0.0"}, **tls)
    CloudSettings(**{name: "0.0.0.0"}, **tls, insecure=True)
    CloudSettings(**{name: "0.0.0.0"}, **TLS, tls_client_ca=Path("ca.pem"))


@pytest.mark.parametrize(
    "fields", [{"tls_cert": Path("c")}, {"tls_key": Path("k")}, {"tls_client_ca": Path("ca")}], ids=str
)
def test_half_a_tls_set_is_refused(fields: dict[str, Path]) -> None:
    with pytest.raises(ValidationError, match="tls_cert"):
        CloudSettings(**fields)


@pytest.mark.parametrize(
    ("name", "enough"),
    [
        ("host", {"token_file": Path("t")}),
        ("metrics_host", {"token_file": Path("t"), "protect_metrics": True}),
    ],
    ids=["host", "metrics"],
)
def test_a_public_address_may_have_tls_and_tokens_instead(name: str, enough: dict[str, object]) -> None:
    CloudSettings(**{name: "0.0.0.0"}, **TLS, **enough)
    for fields in (enough, TLS):
        with pytest.raises(ValidationError, match="can be reached from outside"):
            CloudSettings(**{name: "0.0.0.0"}, **fields)


def test_a_token_for_calls_does_not_open_public_metrics() -> None:
    with pytest.raises(ValidationError, match="protect_metrics"):
        CloudSettings(metrics_host="0.0.0.0", **TLS, token_file=Path("t"))


@pytest.mark.parametrize("fields", [{"protect_metrics": True}, {"require_signed_packs": True}], ids=str)
def test_a_protection_without_what_it_needs_is_refused(fields: dict[str, bool]) -> None:
    with pytest.raises(ValidationError, match="needs"):
        CloudSettings(**fields)
