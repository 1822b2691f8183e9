"""The server as a whole: health, reflection, prompts, metrics, start and stop, what it may import."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
import pytest
from cloud_helpers import CODEC, PATIENCE_S, PROMPT, PlainRunner, infer_request, running
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from cloud.server import SERVICES, CloudServer
from cloud.settings import CloudSettings
from cloud.store import ResultStore
from splitcodec.errors import SettingsError
from splitcodec.wire.options import KEEPALIVE_TIME_S, MIN_PING_INTERVAL_S, client_options, server_options
from splitcodec.wire.v1.prompts_pb2 import ListPromptsRequest

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def scrape(port: int) -> dict[str, float]:
    """Every sample of /metrics as `name{label=value,...}` -> value."""
    url = f"http://127.0.0.1:{port}/metrics"
    body = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=PATIENCE_S).read())
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


TESTS = Path(__file__).resolve().parent


@pytest.mark.parametrize("service", ["", *SERVICES])
async def test_health_reports_each_service(tmp_path: Path, service: str) -> None:
    async with running(tmp_path) as cloud:
        stub = health_pb2_grpc.HealthStub(cloud.channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S)
    assert answer.status == SERVING


async def test_readiness_goes_false_before_running_calls_end(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1) as cloud:
        cloud.runner.gate.clear()
        busy = cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S)
        assert await asyncio.to_thread(cloud.runner.started.wait, PATIENCE_S)
        watch = health_pb2_grpc.HealthStub(cloud.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        stopping = asyncio.create_task(cloud.server.stop())
        assert (await watch.read()).status == NOT_SERVING
        watch.cancel()
        cloud.runner.gate.set()
        answer = await busy
        await stopping
    assert answer.result.cursor == 1


async def test_reflection_lists_the_services(tmp_path: Path) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async with running(tmp_path) as cloud:
        stub = reflection_pb2_grpc.ServerReflectionStub(cloud.channel)
        call = stub.ServerReflectionInfo(iter([request]))
        answers = [answer async for answer in call]
    names = {service.name for service in answers[0].list_services_response.service}
    assert {*SERVICES, "grpc.health.v1.Health"} <= names


async def test_prompts_are_listed_by_task(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        everything = await cloud.prompts.List(ListPromptsRequest(), timeout=PATIENCE_S)
        none = await cloud.prompts.List(ListPromptsRequest(task="segment"), timeout=PATIENCE_S)
    (prompt,) = everything.prompts
    assert (prompt.task, prompt.pack, prompt.codec_digest, prompt.prompt_digest) == (
        "detect",
        "plain",
        CODEC,
        PROMPT,
    )
    assert (prompt.rate_points, prompt.input_height, list(prompt.labels)) == (4, 416, ["cat", "dog"])
    assert not none.prompts


async def test_metrics_are_served_in_base_units_with_closed_labels(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        before = await scrape(cloud.server.metrics_port)
        for seq in (1, 1, 2):
            await cloud.ingest.Infer(infer_request(seq), timeout=PATIENCE_S)
        with pytest.raises(grpc.aio.AioRpcError):
            await cloud.ingest.Infer(infer_request(3, text="forged"), timeout=PATIENCE_S)
        after = await scrape(cloud.server.metrics_port)
    labels = f"('digest', '{PROMPT.hex()}'), ('state', 'active'), ('task', 'detect')"
    assert before[f"splitcodec_prompt_info[{labels}]"] == 1
    expected = {
        "splitcodec_cloud_frames_total[('outcome', 'stored'), ('task', 'detect')]": 2,
        "splitcodec_cloud_frames_total[('outcome', 'repeated'), ('task', 'detect')]": 1,
        "splitcodec_cloud_rejected_total[('reason', 'SigmaIndexMismatch')]": 1,
        "splitcodec_cloud_batch_size_count[]": 3,
        "splitcodec_cloud_stage_seconds_count[('stage', 'decoder')]": 2,
        "splitcodec_cloud_stage_seconds_sum[('stage', 'decoder')]": 0.5,
        "splitcodec_cloud_stage_seconds_count[('stage', 'queue')]": 2,
        "splitcodec_cloud_stage_seconds_count[('stage', 'commit')]": 2,
        "splitcodec_cloud_capture_to_result_seconds_count[('task', 'detect')]": 2,
        "splitcodec_cloud_pending_frames[]": 0,
    }
    assert {name: after.get(name) for name in expected} == expected
    assert not [name for name in after if "box" in name or "door" in name]


async def test_a_taken_port_is_a_settings_error_and_nothing_stays_open(tmp_path: Path) -> None:
    async with running(tmp_path / "first") as cloud:
        for taken in ("port", "metrics_port"):
            port = cloud.server.grpc_port if taken == "port" else cloud.server.metrics_port
            settings = CloudSettings(
                **{"port": 0, "metrics_port": 0, "data_dir": tmp_path / "second", taken: port}
            )
            with pytest.raises(SettingsError, match="choose another"):
                await CloudServer(settings, PlainRunner(), CollectorRegistry()).start()
    ResultStore(tmp_path / "second").close()


def test_importing_the_service_does_not_import_torch() -> None:
    code = (
        "import cloud.server, cloud.__main__, sys; "
        "sys.exit(bool({'torch', 'torchvision', 'compressai', 'onnx'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_pack_that_is_not_there_stops_the_start_with_a_clear_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cloud", "--port", "0", "--packs", str(tmp_path / "nowhere")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert '"PackNotFound: ' in ended.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_signal_at_the_very_word_listening_stops_it(tmp_path: Path) -> None:
    code = """
import builtins, os, signal, sys
from cloud_helpers import PlainRunner
import cloud.__main__ as service
def say_and_be_stopped(*words, **options):
    builtins.print(*words, **options)
    os.kill(os.getpid(), signal.SIGTERM)
service.print = say_and_be_stopped
service.build_runner = lambda *_: PlainRunner()
service.main()
"""
    ended = subprocess.run(
        [sys.executable, "-c", code, "--port=0", "--metrics-port=0", f"--data-dir={tmp_path}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["event"] == "listening"


def test_both_ends_agree_on_limits_and_pings() -> None:
    client, server = dict(client_options()), dict(server_options(8))
    for limit in ("grpc.max_send_message_length", "grpc.max_receive_message_length"):
        assert client[limit] == server[limit]
    assert MIN_PING_INTERVAL_S < KEEPALIVE_TIME_S
    assert server["grpc.http2.min_ping_interval_without_data_ms"] < client["grpc.keepalive_time_ms"]
    assert server["grpc.max_concurrent_streams"] == 8
