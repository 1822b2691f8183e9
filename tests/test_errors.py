"""The error tree: drawn, complete, and each class says whose fault it is."""

import inspect
import re

from splitcodec import errors

SCREEN_LINES = 75


def classes() -> list[type[Exception]]:
    return [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, Exception)]


def drawn_tree() -> list[tuple[int, str]]:
    """(depth, name) of every line of the tree in the module's docstring."""
    lines = re.findall(r"^ *((?:[|`] *(?:-- )?)*)(\w+Error|[A-Z]\w+) *", errors.__doc__ or "", re.MULTILINE)
    return [(len(indent) // 4, name) for indent, name in lines[1:]]  # the first match is the opening sentence


def test_tree_in_docstring_is_the_real_tree():
    parents: list[str] = ["Exception"]
    drawn = {}
    for depth, name in drawn_tree():
        parents[depth + 1 :] = [name]
        drawn[name] = parents[depth]
    assert drawn == {cls.__name__: cls.__base__.__name__ for cls in classes()}


def test_tree_fits_one_screen():
    assert len((errors.__doc__ or "").splitlines()) <= SCREEN_LINES


def test_every_error_has_a_one_sentence_docstring():
    for cls in classes():
        assert re.fullmatch(r"[A-Z`][^.\n]*(\S\.\S[^.\n]*)*\.", cls.__doc__ or ""), cls
