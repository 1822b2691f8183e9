"""The prompt store: a frame keeps the prompt it started with, and a switch is one step."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_pack

from splitcodec.errors import PromptStateError, UnknownPrompt, UnknownTask
from splitcodec.prompts import Prompt, PromptStore

PATIENCE_S = 30.0  # far above what a thread takes to lease a prompt


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Prompt:
    folder: Path = tmp_path_factory.mktemp("store") / "tiny"
    return tiny_pack.write_tiny_pack(folder).prompt("detect")


@pytest.fixture(scope="module")
def second(first: Prompt) -> Prompt:
    return replace(first, digest="cd" * 32)


def digests(store: PromptStore) -> dict[str, bool]:
    return {row.digest: row.active for row in store.list()}


def test_initial_prompts_are_active(first: Prompt) -> None:
    store = PromptStore([first])
    assert store.tasks() == ("detect",)
    with store.lease("detect") as prompt:
        assert prompt is first
        assert store.list()[0].leases == 1
    assert store.list()[0].leases == 0


def test_staged_prompt_is_not_used_until_activated(first: Prompt, second: Prompt) -> None:
    store = PromptStore([first])
    store.stage(second)
    with store.lease("detect") as prompt:
        assert prompt is first
    assert store.activate(second.digest) == first.digest
    with store.lease("detect") as prompt:
        assert prompt is second


def test_lease_outlives_a_switch(first: Prompt, second: Prompt) -> None:
    store = PromptStore([first])
    store.stage(second)
    with store.lease("detect") as held:
        store.activate(second.digest)
        store.retire(first.digest)
        assert held is first
        assert digests(store) == {first.digest: False, second.digest: True}
        with pytest.raises(UnknownPrompt), store.lease_digest(first.wire_digest):
            pass
    assert digests(store) == {second.digest: True}


def test_failed_warm_up_changes_nothing(first: Prompt, second: Prompt) -> None:
    store = PromptStore([first])

    def refuse(prompt: Prompt) -> None:
        raise PromptStateError(f"cannot run {prompt.digest}")

    with pytest.raises(PromptStateError, match="cannot run"):
        store.stage(second, warm=refuse)
    assert digests(store) == {first.digest: True}


def test_bitstream_digest_finds_any_live_prompt(first: Prompt, second: Prompt) -> None:
    store = PromptStore([first])
    store.stage(second)
    for prompt in (first, second):
        with store.lease_digest(prompt.wire_digest) as found:
            assert found is prompt


def test_unknown_names_are_typed_errors(first: Prompt) -> None:
    store = PromptStore([first])
    with pytest.raises(UnknownTask, match="detect"), store.lease("segment"):
        pass
    with pytest.raises(UnknownPrompt, match=first.digest[:16]), store.lease_digest(b"\0" * 8):
        pass
    for digest in ("ee" * 32, "not hex"):
        with pytest.raises(PromptStateError):
            store.activate(digest)
        with pytest.raises(PromptStateError):
            store.retire(digest)


def test_active_prompt_cannot_be_retired(first: Prompt) -> None:
    with pytest.raises(PromptStateError, match="active"):
        PromptStore([first]).retire(first.digest)


def test_staging_again_ends_retirement(first: Prompt, second: Prompt) -> None:
    store = PromptStore([first])
    store.stage(second)
    with store.lease_digest(second.wire_digest):
        store.retire(second.digest)
        with pytest.raises(PromptStateError):
            store.activate(second.digest)
        store.stage(second)
    assert digests(store) == {first.digest: True, second.digest: False}


def test_prompts_that_share_wire_bytes_cannot_both_live(first: Prompt) -> None:
    twin = replace(first, digest=first.digest[:16] + "0" * 48)
    with pytest.raises(PromptStateError, match="8 bytes"):
        PromptStore([first]).stage(twin)


def test_switching_under_load_never_shows_a_retired_prompt(first: Prompt, second: Prompt) -> None:
    """Every switch waits until a user had the new prompt, and then comes in the middle of their leases."""
    store = PromptStore([first])
    seen: Counter[str] = Counter()
    used = threading.Condition()
    errors: list[BaseException] = []
    stop = threading.Event()

    def use() -> None:
        try:
            while not stop.is_set():
                with store.lease("detect") as prompt:
                    live = {row.digest for row in store.list()}
                    if prompt.digest not in live:
                        raise AssertionError("leased a prompt that is gone")
                    with used:
                        seen[prompt.digest] += 1
                        used.notify()
        except BaseException as error:
            with used:
                errors.append(error)
                used.notify()

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    old, new = first, second
    try:
        for _ in range(200):
            store.stage(new)
            before = seen[new.digest]
            store.activate(new.digest)
            store.retire(old.digest)
            with used:
                assert used.wait_for(lambda: errors or seen[new.digest] > before, PATIENCE_S)  # noqa: B023
            assert not errors
            old, new = new, old
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors
    assert set(seen) == {first.digest, second.digest}
    assert store.list()[0].leases == 0
