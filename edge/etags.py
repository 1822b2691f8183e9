"""ETag and If-Match: who would overwrite what somebody else changed meanwhile is told so, and does not."""

from __future__ import annotations

from splitcodec.errors import InvalidRequest, StateChanged


def check_match(if_match: str | None, etag: str, what: str, state: str) -> None:
    """Pass without the header, for `*` and where it has the tag; etag: without quotes, of what is there now.

    StateChanged tells the state and its tag; InvalidRequest: a header that lists no tags.
    """
    if if_match is None or if_match.strip() == "*":
        return
    tags = [tag.strip() for tag in if_match.split(",")]
    if not all(len(tag) >= 2 and tag[0] == tag[-1] == '"' for tag in tags):
        raise InvalidRequest(f"If-Match is {if_match[:64]}; give the ETag of an answer, with its quotes")
    if quoted(etag) not in tags:
        raise StateChanged(f"{what} was changed meanwhile: it {state} now, with ETag {quoted(etag)}")


def check_new(if_none_match: str | None, is_new: bool, what: str, state: str) -> None:
    """Pass without the header, and for `*` where nothing was told yet. StateChanged, InvalidRequest."""
    if if_none_match is None:
        return
    if if_none_match.strip() != "*":
        raise InvalidRequest("If-None-Match takes * alone: change nothing that somebody has set before")
    if not is_new:
        raise StateChanged(f"{what} is set already: it {state}")


def quoted(etag: str) -> str:
    """A tag as it stands in a header."""
    return f'"{etag}"'
