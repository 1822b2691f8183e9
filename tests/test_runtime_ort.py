"""ONNX Runtime sessions: exact feeds, typed failures, no silent change of engine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tiny_pack

from splitcodec.errors import GraphFailed, RuntimeUnavailable, SettingsError
from splitcodec.runtime import ENGINES, Session, choose_engine, engine_status, open_session
from splitcodec.runtime.constants import ConstantCache
from splitcodec.runtime.ort import OrtSession

Feed = dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]


@pytest.fixture
def feed() -> Feed:
    tensors = tiny_pack.prompt_tensors()
    prompt = {name: tensors[name] for name in ("g_a.conv0.weight", "g_a.conv0.bias")}
    image = np.random.default_rng(1).uniform(0, 255, (2, 3, 32, 64)).astype(np.float32)
    return {"image": image, "gain_y": np.ones((2, tiny_pack.CY, 1, 1), np.float32), **prompt}


def test_session_meets_the_protocol(feed: Feed) -> None:
    session = open_session(tiny_pack.head_graph(), "ort-cpu", name="head")
    assert isinstance(session, Session)
    assert (session.name, session.engine) == ("head", "onnxruntime-cpu")
    assert session.input_names == tuple(sorted(feed))
    assert session.output_names == ("y",)
    assert session.run(feed)["y"].shape == (2, tiny_pack.CY, 2, 4)
    assert set(session.placement) == {"CPUExecutionProvider"}


def test_prompt_is_an_input_not_a_weight(feed: Feed) -> None:
    session = open_session(tiny_pack.head_graph(), "ort-cpu")
    one = session.run(feed)["y"]
    two = session.run(
        {
            **feed,
            "g_a.conv0.weight": feed["g_a.conv0.weight"] * 2,
            "g_a.conv0.bias": feed["g_a.conv0.bias"] * 2,
        }
    )
    np.testing.assert_allclose(two["y"], one * 2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_partial_feed_is_refused(feed: Feed, change: str) -> None:
    session = open_session(tiny_pack.head_graph(), "ort-cpu", name="head")
    if change == "missing":
        feed.pop("g_a.conv0.bias")
    else:
        feed["h_a.conv0.bias"] = feed["g_a.conv0.bias"]
    with pytest.raises(GraphFailed, match=r"graph head lacks inputs .* unknown"):
        session.run(feed)


def test_misshaped_input_is_a_typed_error(feed: Feed) -> None:
    session = open_session(tiny_pack.head_graph(), "ort-cpu", name="head")
    with pytest.raises(GraphFailed, match="graph head failed"):
        session.run({**feed, "gain_y": np.ones((2, 3, 1, 1), np.float32)})


def test_bytes_that_are_no_graph_are_refused() -> None:
    with pytest.raises(GraphFailed, match="refuses graph x"):
        open_session(b"not onnx", "ort-cpu", name="x")


def test_graph_may_come_from_a_path(tmp_path: Path, feed: Feed) -> None:
    (tmp_path / "head.onnx").write_bytes(tiny_pack.head_graph())
    session = open_session(tmp_path / "head.onnx", "ort-cpu")
    assert session.name == "head"
    with pytest.raises(GraphFailed, match="cannot be read"):
        open_session(tmp_path / "none.onnx", "ort-cpu")


@pytest.mark.parametrize("threads", [0, -1, 257])
def test_thread_count_has_limits(threads: int) -> None:
    with pytest.raises(SettingsError, match="threads is"):
        open_session(tiny_pack.head_graph(), "ort-cpu", threads)


def test_options_are_explicit_and_do_not_spin() -> None:
    session = OrtSession(tiny_pack.head_graph(), "head", threads=2)
    options = session._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_exact_graph_is_run_as_written() -> None:
    import onnxruntime

    session = OrtSession(tiny_pack.scale_graph(), "scale", exact=True)
    level = session._session.get_session_options().graph_optimization_level
    assert level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with pytest.raises(RuntimeUnavailable, match="must run on ort-cpu"):
        OrtSession(tiny_pack.scale_graph(), "scale", "ort-cuda", exact=True)


def test_bound_inputs_give_the_same_result(feed: Feed) -> None:
    """The path of GPU providers, here with the CPU as device: read-only inputs are uploaded once."""
    session = OrtSession(tiny_pack.head_graph(), "head")
    plain = session.run(feed)["y"]
    for name in ("g_a.conv0.weight", "g_a.conv0.bias"):
        feed[name].flags.writeable = False
    for _ in range(2):
        assert np.array_equal(session._run_bound(feed)[0], plain)
    assert len(session._constants) == 2


def test_one_session_serves_several_threads(feed: Feed) -> None:
    session = open_session(tiny_pack.head_graph(), "ort-cpu")
    want = session.run(feed)["y"]
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: session.run(feed)["y"], range(32)):
            assert np.array_equal(got, want)


def test_every_unavailable_engine_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without a GPU, whatever this one has."""
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr("splitcodec.runtime.tensorrt.why_not", lambda: "no GPU today")
    rows = engine_status()
    assert [row.engine for row in rows] == list(ENGINES[1:])
    assert [row.engine for row in rows if row.available] == ["ort-cpu"]
    for row in rows[1:]:
        assert row.reason
        with pytest.raises(RuntimeUnavailable) as caught:
            open_session(tiny_pack.head_graph(), row.engine)
        assert row.reason in str(caught.value)
    assert rows[0].reason == ""


def test_missing_provider_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(RuntimeUnavailable, match=r"no CUDAExecutionProvider .*install '\.\[cuda\]'"):
        open_session(tiny_pack.head_graph(), "ort-cuda")


@pytest.mark.filterwarnings(
    "ignore:Specified provider 'CUDAExecutionProvider' is not in available:UserWarning"
)
def test_silent_fall_back_to_the_cpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An onnxruntime-gpu whose CUDA does not load opens the graph on the CPU and only warns."""
    monkeypatch.setattr("splitcodec.runtime.ort.why_not", lambda engine: None)
    with pytest.raises(RuntimeUnavailable, match="fell back to CPUExecutionProvider"):
        OrtSession(tiny_pack.head_graph(), "head", "ort-cuda")


@pytest.mark.filterwarnings(
    "ignore:Specified provider 'CUDAExecutionProvider' is not in available:UserWarning"
)
def test_auto_that_falls_back_to_the_cpu_is_said_once_for_each_graph(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("splitcodec.runtime.ort.why_not", lambda engine: None)
    monkeypatch.setattr("splitcodec.runtime.tensorrt.why_not", lambda: "no GPU")
    session = open_session(tiny_pack.head_graph(), "auto", name="head")
    assert session.engine == "onnxruntime-cpu"
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    for part in ("graph head runs on onnxruntime-cpu", "because of ort-cuda: ", "fell back to CPUExecution"):
        assert part in record.message


def test_auto_without_a_gpu_has_nothing_to_say(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("splitcodec.runtime.tensorrt.why_not", lambda: "no GPU")
    assert open_session(tiny_pack.head_graph(), "auto").engine == "onnxruntime-cpu"
    assert caplog.records == []


def test_unknown_engine_lists_the_engines() -> None:
    with pytest.raises(RuntimeUnavailable, match=r"'gpu'; choose one of \['auto', 'ort-cpu'"):
        choose_engine("gpu")


def test_without_any_engine_every_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitcodec.runtime.ort.why_not", lambda engine: f"no {engine} today")
    monkeypatch.setattr("splitcodec.runtime.tensorrt.why_not", lambda: "no GPU")
    with pytest.raises(RuntimeUnavailable, match=r"no ort-cpu today.*no ort-cuda today.*no GPU"):
        choose_engine("auto")


def test_constants_are_dropped_with_their_array() -> None:
    uploads: list[int] = []

    def upload(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> int:
        uploads.append(array.size)
        return array.size

    cache = ConstantCache(upload)
    first = np.zeros(3)
    assert [cache.get(first), cache.get(first)] == [3, 3]
    assert uploads == [3]
    del first
    second = np.zeros(4)
    assert cache.get(second) == 4
    assert len(cache) == 1
