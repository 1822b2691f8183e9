"""Tokens, limits per device, and /metrics of the cloud, over real connections."""

from __future__ import annotations

import asyncio
import http.client
import logging
import ssl
from pathlib import Path

import grpc
import pytest
from cloud_access_rig import Metadata, add_token, bearer, code_of, ending, guarded, until_end
from cloud_helpers import PATIENCE_S, PlainRunner, error_name, infer_request, running, stream_request
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from identities import make_identity, put
from prometheus_client import CollectorRegistry

from cloud.access import METHODS, scopes_of
from cloud.server import SERVICES, CloudServer
from cloud.settings import CloudSettings
from splitcodec.errors import SettingsError
from splitcodec.tokens import SCOPES, Scope, read_tokens, write_tokens
from splitcodec.wire.options import client_options
from splitcodec.wire.v1 import ingest_pb2, prompts_pb2, results_pb2
from splitcodec.wire.v1.prompts_pb2 import ListPromptsRequest
from splitcodec.wire.v1.prompts_pb2_grpc import PromptsStub

CODE = grpc.StatusCode


def test_every_method_of_every_service_is_in_the_table() -> None:
    found = {
        f"/{service.full_name}/{method.name}"
        for module in (ingest_pb2, results_pb2, prompts_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert set(METHODS) >= found
    assert {name.split("/")[1] for name in METHODS} >= set(SERVICES)


def test_a_method_that_is_not_in_the_table_needs_admin() -> None:
    assert scopes_of("/splitcodec.wire.v1.FeatureIngest/New") == ("admin",)
    assert scopes_of("/grpc.health.v1.HealthX/Check") == ("admin",)


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_scope_opens_its_methods_and_no_others(tmp_path: Path, scope: Scope) -> None:
    async with guarded(tmp_path) as (cloud, place):
        metadata = bearer(add_token(place, scope))
        for method, scopes in METHODS.items():
            # Bytes that are no message end every call that gets past the interceptor, with some other code.
            code = await ending(cloud, method, b"\xff", metadata)
            let_in = scope == "admin" or scope in scopes
            assert (code is CODE.PERMISSION_DENIED) != let_in, method
            assert code not in (CODE.UNAUTHENTICATED, CODE.DEADLINE_EXCEEDED), method


@pytest.mark.parametrize(
    "metadata", [(), (("authorization", "Bearer x"),), (("authorization", "Basic eA=="),)]
)
async def test_calls_without_a_token_end_before_their_request_is_read(
    tmp_path: Path, metadata: Metadata
) -> None:
    async with guarded(tmp_path) as (cloud, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await cloud.ingest.Infer(infer_request(1), metadata=metadata, timeout=PATIENCE_S)
        assert caught.value.code() is CODE.UNAUTHENTICATED
        assert error_name(caught.value) == "NotAuthenticated"
        assert cloud.runner.batches == []
        silent = cloud.ingest.Stream(metadata=metadata, timeout=PATIENCE_S)  # sends nothing at all
        assert await code_of(silent) is CODE.UNAUTHENTICATED
        assert cloud.metric("splitcodec_cloud_rejected_total", reason="NotAuthenticated") == 2


async def test_a_sound_token_is_served_and_a_revoked_or_ended_one_is_not(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (cloud, place):
        token = add_token(place, "frames", "results")
        answer = await cloud.ingest.Infer(infer_request(1), metadata=bearer(token), timeout=PATIENCE_S)
        assert answer.result.key.seq == 1
        ended = add_token(place, "frames", hours=-1)
        write_tokens(place, [record for record in read_tokens(place) if record.id in ended])
        for one, why in ((token, "unknown"), (ended, "ended")):
            with pytest.raises(grpc.aio.AioRpcError, match=why) as caught:
                await cloud.ingest.Infer(infer_request(2), metadata=bearer(one), timeout=PATIENCE_S)
            assert caught.value.code() is CODE.UNAUTHENTICATED


async def test_a_token_that_is_revoked_ends_streams_and_watches_that_run(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (cloud, place):
        metadata = bearer(add_token(place, "frames", "results"))
        stream = cloud.ingest.Stream(metadata=metadata, timeout=PATIENCE_S)
        await stream.write(stream_request(1))
        watch = cloud.results.Watch(results_pb2.WatchResultsRequest(after_cursor=0), metadata=metadata)
        assert (await watch.read()).result.key.seq == 1
        write_tokens(place, [])
        await stream.write(stream_request(2))
        rejections = [one async for response in until_end(stream) for one in response.rejections]
        assert [(one.error, one.settled) for one in rejections] == [("NotAuthenticated", False)]
        assert await code_of(stream) is CODE.UNAUTHENTICATED
        again = bearer(add_token(place, "frames"))
        await cloud.ingest.Infer(infer_request(3), metadata=again, timeout=PATIENCE_S)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(watch.read(), PATIENCE_S)
        assert caught.value.code() is CODE.UNAUTHENTICATED


async def test_health_is_open_and_reflection_needs_any_token(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (cloud, place):
        stub = health_pb2_grpc.HealthStub(cloud.channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=SERVICES[0]), timeout=PATIENCE_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflect = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        ask = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
        assert await ending(cloud, reflect, ask) is CODE.UNAUTHENTICATED
        assert await ending(cloud, reflect, ask, bearer(add_token(place, "metrics"))) is CODE.OK


async def test_a_token_for_one_device_sends_no_frames_of_another(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (cloud, place):
        metadata = bearer(add_token(place, "frames", device="other"))
        with pytest.raises(grpc.aio.AioRpcError, match="only send frames of device other") as caught:
            await cloud.ingest.Infer(infer_request(1), metadata=metadata, timeout=PATIENCE_S)
        assert caught.value.code() is CODE.PERMISSION_DENIED
        call = cloud.ingest.Stream(iter([stream_request(1)]), metadata=metadata, timeout=PATIENCE_S)
        rejections = [one async for response in until_end(call) for one in response.rejections]
        assert [(one.code, one.settled) for one in rejections] == [(CODE.PERMISSION_DENIED.value[0], False)]
        assert cloud.runner.batches == []
        own = bearer(add_token(place, "frames", device="box"))
        await cloud.ingest.Infer(infer_request(1), metadata=own, timeout=PATIENCE_S)


async def test_calls_of_a_device_that_sends_too_fast_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path / "data", device_frames_per_s=0.01) as cloud:
        await cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S)
        with pytest.raises(grpc.aio.AioRpcError, match=r"more than 0\.01 frames per second") as caught:
            await cloud.ingest.Infer(infer_request(2), timeout=PATIENCE_S)
        assert caught.value.code() is CODE.RESOURCE_EXHAUSTED
        assert error_name(caught.value) == "TooManyRequests"


@pytest.mark.slow
async def test_streams_of_a_device_that_sends_too_fast_are_slowed_and_lose_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "data", device_frames_per_s=4) as cloud:  # 8 at once, then 4 a second
        loop = asyncio.get_running_loop()
        started = loop.time()
        requests = iter([stream_request(seq) for seq in range(11)])
        responses = [one async for one in cloud.ingest.Stream(requests, timeout=PATIENCE_S)]
        assert [one.key.seq for response in responses for one in response.results] == list(range(11))
        assert loop.time() - started >= 0.74  # the last three wait for their turn; no machine is too fast


async def test_streams_are_limited_per_device_and_in_all(tmp_path: Path) -> None:
    async with running(tmp_path / "data", device_streams=1, max_streams=2) as cloud:
        first = cloud.ingest.Stream(timeout=PATIENCE_S)
        await first.write(stream_request(1))
        assert (await first.read()).opened.max_in_flight > 0
        assert (await first.read()).acks[0].seq == 1
        second = cloud.ingest.Stream(timeout=PATIENCE_S)
        assert (await second.read()).opened.max_in_flight > 0
        third = cloud.ingest.Stream(timeout=PATIENCE_S)
        assert await code_of(third) is CODE.RESOURCE_EXHAUSTED
        assert "the limit is 2" in await third.details()
        await second.write(stream_request(2))
        assert await code_of(second) is CODE.RESOURCE_EXHAUSTED
        assert "1 streams open" in await second.details()
        await first.done_writing()
        assert await code_of(first) is CODE.OK
        assert cloud.runner.batches == [["door-1"]]
        fourth = cloud.ingest.Stream(iter([stream_request(2)]), timeout=PATIENCE_S)
        assert [one async for one in fourth][-1].acks[0].seq == 2


def scrape(
    port: int, headers: dict[str, str], context: ssl.SSLContext | None = None
) -> http.client.HTTPResponse:
    connection: http.client.HTTPConnection = (
        http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        if context is None
        else http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE_S, context=context)
    )
    connection.request("GET", "/metrics", headers=headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


async def test_metrics_ask_for_a_token_only_where_the_settings_say_so(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (cloud, _):
        assert (await asyncio.to_thread(scrape, cloud.server.metrics_port, {})).status == 200
    async with guarded(tmp_path, protect_metrics=True) as (cloud, place):
        tokens = {scope: add_token(place, scope) for scope in ("metrics", "frames")}
        refused = await asyncio.to_thread(scrape, cloud.server.metrics_port, {})
        assert refused.status == 401
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        for scope, status in (("metrics", 200), ("frames", 403)):
            header = {"Authorization": f"Bearer {tokens[scope]}"}
            assert (await asyncio.to_thread(scrape, cloud.server.metrics_port, header)).status == status


async def test_tokens_over_tls_let_clients_in_without_certificates(tmp_path: Path) -> None:
    authority = make_identity("authority")
    server = make_identity("cloud", authority)
    put(tmp_path / "c.pem", server.cert_pem)
    put(tmp_path / "k.pem", server.key_pem)
    token = add_token(tmp_path / "tokens.json", "prompts", "metrics")
    settings = CloudSettings(
        host="0.0.0.0",
        metrics_host="0.0.0.0",
        port=0,
        metrics_port=0,
        data_dir=tmp_path / "data",
        tls_cert=tmp_path / "c.pem",
        tls_key=tmp_path / "k.pem",
        token_file=tmp_path / "tokens.json",
        protect_metrics=True,
    )
    registry = CollectorRegistry()
    async with CloudServer(settings, PlainRunner(), registry) as cloud:
        target = f"127.0.0.1:{cloud.grpc_port}"
        credentials = grpc.ssl_channel_credentials(authority.cert_pem)
        async with grpc.aio.secure_channel(target, credentials, options=client_options()) as channel:
            list_prompts = PromptsStub(channel).List
            answer = await list_prompts(ListPromptsRequest(), metadata=bearer(token), timeout=PATIENCE_S)
            assert len(answer.prompts) == 1
            with pytest.raises(grpc.aio.AioRpcError, match="needs a bearer token"):
                await list_prompts(ListPromptsRequest(), timeout=PATIENCE_S)
        context = ssl.create_default_context(cadata=authority.cert_pem.decode())
        for header, status in (({"Authorization": f"Bearer {token}"}, 200), ({}, 401)):
            assert (await asyncio.to_thread(scrape, cloud.metrics_port, header, context)).status == status
    ends = registry.get_sample_value("splitcodec_certificate_expiry_timestamp_seconds", {"use": "server"})
    assert ends == server.certificate.not_valid_after_utc.timestamp()


async def test_a_client_that_never_speaks_does_not_stop_metrics(tmp_path: Path) -> None:
    authority = make_identity("authority")
    server = make_identity("cloud", authority)
    settings = CloudSettings(
        metrics_host="0.0.0.0",
        port=0,
        metrics_port=0,
        data_dir=tmp_path / "data",
        tls_cert=put(tmp_path / "c.pem", server.cert_pem),
        tls_key=put(tmp_path / "k.pem", server.key_pem),
        insecure=True,
    )
    context = ssl.create_default_context(cadata=authority.cert_pem.decode())
    async with CloudServer(settings, PlainRunner(), CollectorRegistry()) as cloud:
        _, writer = await asyncio.open_connection("127.0.0.1", cloud.metrics_port)
        assert (await asyncio.to_thread(scrape, cloud.metrics_port, {}, context)).status == 200
        writer.close()
        await writer.wait_closed()


async def test_no_token_appears_in_logs_or_metrics(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with guarded(tmp_path, protect_metrics=True) as (cloud, place):
        sound, ended = add_token(place, "frames", "metrics"), add_token(place, "frames", hours=-1)
        for token in (sound, ended, sound[:-1] + "!", ended + "x"):
            call = cloud.ingest.Infer(infer_request(1), metadata=bearer(token), timeout=PATIENCE_S)
            await code_of(call)
            details = await call.details()
            assert token.split("_", 2)[2] not in (details or "")
            header = {"Authorization": f"Bearer {token}"}
            await asyncio.to_thread(scrape, cloud.server.metrics_port, header)
        place.write_text("{")
        await code_of(cloud.ingest.Infer(infer_request(2), metadata=bearer(sound), timeout=PATIENCE_S))
        text = caplog.text + str([sample for family in cloud.registry.collect() for sample in family.samples])
    assert "the tokens in use stay" in text
    for token in (sound, ended):
        assert token.split("_", 2)[2] not in text


async def test_a_malformed_token_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text("{}")
    settings = CloudSettings(data_dir=tmp_path, token_file=tmp_path / "tokens.json")
    with pytest.raises(SettingsError, match="breaks the format"):
        CloudServer(settings, PlainRunner(), CollectorRegistry())
