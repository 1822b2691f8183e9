"""A text that is cut ends at a word, says so, and keeps its remedy."""

from __future__ import annotations

import json

import pytest

from cloud.status import MAX_MESSAGE_CHARACTERS, refusal_for
from edge.cameras import parse_wish
from edge.sources.messages import MAX_REASON_BYTES
from edge.sources.reader import Ended, reason
from splitcodec.errors import InvalidRequest
from splitcodec.texts import shortened, shortened_utf8

REMEDY = "send slower, or add a machine"
MESSAGE = f"the cloud has too many frames waiting, {'very ' * 30}many, the limit is 64; {REMEDY}"


def test_what_is_wrong_with_a_choice_ends_at_a_word() -> None:
    fields = {f"no_such_field_{number}": 1 for number in range(50)}
    with pytest.raises(InvalidRequest) as caught:
        parse_wish(json.dumps({"task": "detect", **fields}).encode())
    said = str(caught.value)
    assert len(said) <= 1000
    assert said.endswith(" ...; no_such_field_49: Extra inputs are not permitted")


def test_a_text_that_fits_stays_as_it_is() -> None:
    assert shortened(MESSAGE, len(MESSAGE)) == MESSAGE
    assert shortened("", 0) == ""


@pytest.mark.parametrize("limit", range(80, 170))
def test_a_cut_is_between_words_and_the_remedy_stays(limit: int) -> None:
    text = shortened(MESSAGE, limit)
    said, _, remedy = text.partition(" ...; ")
    assert remedy == REMEDY
    assert len(text) <= limit
    assert MESSAGE.startswith(said)
    assert MESSAGE[len(said)] in " ,"


def test_a_remedy_that_would_leave_no_room_for_the_rest_is_cut_too() -> None:
    assert (
        shortened("it failed; " + "do this and that " * 10, 40) == "it failed; do this and that do this ..."
    )


@pytest.mark.parametrize("limit", range(12))
def test_no_limit_is_exceeded_by_a_text_without_a_space(limit: int) -> None:
    assert len(shortened("x" * 50, limit)) <= limit
    assert len(shortened_utf8("€" * 50, limit)) <= limit


@pytest.mark.parametrize("limit", range(20, 60))
def test_no_character_is_split(limit: int) -> None:
    data = shortened_utf8("die Kamera heißt Größe 🙂 und spricht €; tu was", limit)
    assert len(data) <= limit
    said, _, remedy = data.decode().partition("; ")
    assert "die Kamera heißt Größe 🙂 und spricht €".startswith(said.removesuffix(" ..."))
    assert remedy in ("tu was", "")


def test_a_text_that_utf8_cannot_hold_is_told_all_the_same() -> None:
    assert shortened_utf8("bad \udcff name", 50) == b"bad ? name"


def test_the_reason_of_a_camera_fits_its_message() -> None:
    data = shortened_utf8(reason(Ended("ä" * MAX_REASON_BYTES + " b; ask it")), MAX_REASON_BYTES)
    assert len(data) <= MAX_REASON_BYTES
    assert data.decode().endswith("ask it")


def test_what_a_device_is_told_ends_at_a_word_and_keeps_the_remedy() -> None:
    said = refusal_for(InvalidRequest("the field is wrong " * 100 + "; give another")).message
    assert len(said) <= MAX_MESSAGE_CHARACTERS
    assert said.endswith("the field is ...; give another")
