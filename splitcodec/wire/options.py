"""gRPC channel options that edge and cloud must choose together: message limits and keepalive.

A server that allows fewer pings than its clients send answers with GOAWAY too_many_pings, and a limit raised
on one side only fails on the other, so both sides take their options from here.
"""

from typing import Final

from splitcodec.wire.proxies import is_near

ChannelOptions = tuple[tuple[str, int], ...]

MAX_MESSAGE_BYTES: Final = 5 * 2**20
"""Limit of one message in either direction: a bitstream of at most 4 MiB, or a page of results, and its
fields."""

KEEPALIVE_TIME_S: Final = 30.0
KEEPALIVE_TIMEOUT_S: Final = 10.0
MIN_PING_INTERVAL_S: Final = 10.0
"""The server takes pings this often; it must stay below KEEPALIVE_TIME_S."""


def client_options(target: str = "127.0.0.1", *, use_proxy: bool = False) -> ChannelOptions:
    """Options for `grpc.aio.insecure_channel` or `secure_channel` towards the cloud at host:port.

    use_proxy: through the proxy of the environment even if it is near, see `splitcodec.wire.proxies`.
    """
    proxy: ChannelOptions = () if use_proxy else proxy_options(target)
    return (*_both_ends(), ("grpc.http2.max_pings_without_data", 0), *proxy)


def proxy_options(target: str) -> ChannelOptions:
    """What keeps a channel to host:port from the proxy of the environment if it is near, and nothing else."""
    return (("grpc.enable_http_proxy", 0),) if is_near(target) else ()


def server_options(max_concurrent_streams: int) -> ChannelOptions:
    """Options for `grpc.aio.server`; `max_concurrent_streams` calls may run at once on one connection."""
    return (
        *_both_ends(),
        ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(MIN_PING_INTERVAL_S)),
        ("grpc.max_concurrent_streams", max_concurrent_streams),
        # Without this a second server on the same port starts too, and the kernel splits the calls between
        # them.
        ("grpc.so_reuseport", 0),
    )


def _both_ends() -> ChannelOptions:
    return (
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", _milliseconds(KEEPALIVE_TIME_S)),
        ("grpc.keepalive_timeout_ms", _milliseconds(KEEPALIVE_TIMEOUT_S)),
        ("grpc.keepalive_permit_without_calls", 1),
    )


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
