"""Bearer tokens: hashed at rest, compared in constant time, scoped, ended, revoked while a service runs."""

from __future__ import annotations

import hmac
import json
import logging
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from typer.testing import CliRunner

from splitcodec.cli import app
from splitcodec.errors import NotAuthenticated, NotPermitted, SettingsError
from splitcodec.tokens import Scope, TokenBook, new_token, read_tokens, write_tokens

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)


def token_file(place: Path, *scopes: Scope, days: int = 1, device: str | None = None) -> str:
    """A token with these scopes, alone in a file."""
    token, record = new_token(scopes, NOW + timedelta(days=days), device)
    write_tokens(place, [record])
    return token


def book(place: Path) -> TokenBook:
    return TokenBook(place, clock=lambda: NOW)


def test_a_token_opens_what_its_scopes_say(tmp_path: Path) -> None:
    token = token_file(tmp_path / "t.json", "frames", "results")
    caller = book(tmp_path / "t.json").check(f"Bearer {token}")
    caller.require(["frames"])
    caller.require(["prompts", "results"])
    caller.require([])
    with pytest.raises(NotPermitted, match="needs scope prompts"):
        caller.require(["prompts"])


def test_admin_may_do_everything(tmp_path: Path) -> None:
    token = token_file(tmp_path / "t.json", "admin")
    book(tmp_path / "t.json").check(f"bearer {token}").require(["prompts"])


def test_a_token_for_one_device_sends_no_frames_of_another(tmp_path: Path) -> None:
    token = token_file(tmp_path / "t.json", "frames", device="box-1")
    caller = book(tmp_path / "t.json").check(f"Bearer {token}")
    caller.require_device("box-1")
    with pytest.raises(NotPermitted, match="box-2"):
        caller.require_device("box-2")


@pytest.mark.parametrize(
    "change",
    [
        lambda token: "",
        lambda token: "Bearer ",
        lambda token: f"Basic {token}",
        lambda token: token,
        lambda token: f"Bearer {token[:-1]}",
        lambda token: f"Bearer {token[:-1]}{'A' if token[-1] != 'A' else 'B'}",
        lambda token: f"Bearer sct_{'0' * 12}_{token[-43:]}",
        lambda token: f"Bearer {token}" + "A" * 10_000,
        lambda token: f"Bearer {token}é",
    ],
    ids=["none", "empty", "basic", "bare", "short", "wrong", "unknown id", "long", "not ascii"],
)
def test_anything_but_the_token_is_refused_without_repeating_it(tmp_path: Path, change: object) -> None:
    token = token_file(tmp_path / "t.json", "frames")
    with pytest.raises(NotAuthenticated) as caught:
        book(tmp_path / "t.json").check(change(token))  # type: ignore[operator]
    assert token[-20:-1] not in str(caught.value)


def test_an_ended_token_is_refused(tmp_path: Path) -> None:
    token = token_file(tmp_path / "t.json", "frames", days=0)
    with pytest.raises(NotAuthenticated, match="ended 2030"):
        book(tmp_path / "t.json").check(f"Bearer {token}")


def test_the_file_does_not_hold_the_token_and_only_its_owner_writes_it(tmp_path: Path) -> None:
    place = tmp_path / "t.json"
    token = token_file(place, "frames")
    assert token.split("_", 2)[2] not in place.read_text()
    assert place.stat().st_mode & 0o022 == 0
    place.chmod(0o664)
    with pytest.raises(SettingsError, match="chmod go-w"):
        book(place)


def test_secrets_are_compared_in_constant_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = token_file(tmp_path / "t.json", "frames")
    compared: list[tuple[str, str]] = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    book(tmp_path / "t.json").check(f"Bearer {token}")
    record = read_tokens(tmp_path / "t.json")[0]
    assert compared == [(record.sha256, record.sha256)]


def test_a_changed_file_counts_at_the_next_request(tmp_path: Path) -> None:
    place = tmp_path / "t.json"
    old = token_file(place, "frames")
    tokens = book(place)
    tokens.check(f"Bearer {old}")
    new = token_file(place, "frames")
    tokens.check(f"Bearer {new}")
    with pytest.raises(NotAuthenticated, match="unknown"):
        tokens.check(f"Bearer {old}")


def test_a_broken_file_keeps_the_tokens_in_use_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "t.json"
    token = token_file(place, "frames")
    tokens = book(place)
    good = place.read_bytes()
    for harm in (lambda: place.write_text("{"), place.unlink):
        harm()
        caplog.clear()
        with caplog.at_level(logging.ERROR):
            for _ in range(3):
                tokens.check(f"Bearer {token}")
        assert len(caplog.records) == 1
    place.write_bytes(good)
    tokens.check(f"Bearer {token}")


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"format": 2, "tokens": []}', '{"format": 1, "tokens": [{"id": "a"}]}'],
)
def test_a_malformed_file_stops_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(SettingsError, match="breaks the format"):
        book(tmp_path / "t.json")


def run(*words: object) -> tuple[int, str, BaseException | None]:
    done = CliRunner().invoke(app, ["token", *map(str, words)])
    return done.exit_code, done.stdout, done.exception


def test_commands_make_list_and_revoke_tokens(tmp_path: Path) -> None:
    place = tmp_path / "t.json"
    code, out, _ = run("new", "--scopes", "frames,results", "--expires", "90d", "--file", place)
    assert code == 0
    token = out.strip().splitlines()[-1]
    assert TokenBook(place).check(f"Bearer {token}").scopes == {"frames", "results"}
    assert run("new", "--scopes", "metrics", "--device", "box", "--file", place)[0] == 0
    listed = run("list", "--file", place)[1]
    assert "frames,results  any device" in listed
    assert "metrics  box" in listed
    assert token.split("_", 2)[2] not in listed
    assert run("revoke", token.split("_")[1], "--file", place)[0] == 0
    with pytest.raises(NotAuthenticated):
        TokenBook(place).check(f"Bearer {token}")
    assert len(json.loads(place.read_text())["tokens"]) == 1


@pytest.mark.parametrize(
    "words", [("new", "--scopes", "fly"), ("new", "--scopes", ""), ("revoke", "000000000000")]
)
def test_commands_refuse_what_does_not_exist(tmp_path: Path, words: tuple[str, ...]) -> None:
    write_tokens(tmp_path / "t.json", [])
    assert isinstance(run(*words, "--file", tmp_path / "t.json")[2], SettingsError)
