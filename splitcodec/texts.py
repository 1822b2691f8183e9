"""Long texts made short without losing what the reader needs: whole words, and the remedy at the end."""

from __future__ import annotations

from typing import Final

GAP: Final = " ..."
REMEDY: Final = "; "  # what follows the last one of a message says what to do


def shortened(text: str, limit: int) -> str:
    """`text` in at most `limit` characters: words before the remedy are left out, and marked with `...`.

    The remedy is what follows the last `;`. One of more than half the limit is cut like the rest.
    """
    if len(text) <= limit:
        return text
    said, mark, remedy = text.rpartition(REMEDY)
    end = GAP + mark + remedy
    if not mark or 2 * len(end) > limit:
        said, end = text, GAP
    return (_whole_words(said, max(0, limit - len(end))) + end)[:limit]


def shortened_utf8(text: str, max_bytes: int) -> bytes:
    """`shortened` to a number of bytes of UTF-8; no character is split."""
    limit = max_bytes
    while len(data := shortened(text, limit).encode(errors="replace")) > max_bytes:
        limit -= max(1, (len(data) - max_bytes) // 4)  # a character has 4 bytes at most
    return data


def _whole_words(text: str, limit: int) -> str:
    """The words that fit; part of the first one if not even that does."""
    if len(text) <= limit:
        return text
    cut = text[:limit]
    if not text[limit].isspace():
        cut = cut.rpartition(" ")[0] or cut
    return cut.rstrip(" ,;:")
