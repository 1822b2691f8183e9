"""Pages that show measured numbers: `splitcodec publish` alone writes what stands between two marks."""

from __future__ import annotations

from splitcodec.errors import DatasetError


def with_block(text: str, name: str, body: str) -> str:
    """`text` with what stands between <!-- name:begin --> and <!-- name:end --> replaced.

    DatasetError unless each mark is there once.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise DatasetError(f"the page must hold {begin} and {end} once each")
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n{body}\n{end}{rest.partition(end)[2]}"
