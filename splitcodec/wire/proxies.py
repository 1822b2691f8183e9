"""Which connections to a cloud go through the HTTP proxy of the environment, and which do not.

gRPC takes the proxy for every target that `no_proxy` does not name, the machine itself included. Here a cloud
on this machine or in a private network is reached directly, unless its caller wants the proxy.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Final
from urllib.parse import urlsplit

PROXIES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
"""Variables in the order in which gRPC looks at them."""
EXCEPTIONS: Final = ("no_grpc_proxy", "no_proxy")
_SCHEME: Final = re.compile(r"^(dns|ipv4|ipv6):(//[^/]*/)?")
_PRIVATE_NAMES: Final = (".localhost", ".local", ".internal")
"""Names that no public name server knows (RFC 6761, RFC 6762, and ICANN's own)."""


def is_near(target: str) -> bool:
    """Whether host:port is this machine or one in a private network.

    That is: a loopback, private or link-local address, a name without a dot, or one that ends in .localhost,
    .local or .internal.
    """
    host = _host(target)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(_PRIVATE_NAMES)
    return address.is_private or address.is_loopback or address.is_link_local


def proxy_of(target: str, *, use_proxy: bool = False) -> str | None:
    """The proxy that a channel to host:port takes, without its password, and the variable that names it.

    use_proxy: also for a target that is near.
    """
    if (is_near(target) and not use_proxy) or _is_excepted(_host(target)):
        return None
    for name in PROXIES:
        if value := os.environ.get(name):
            return f"{_without_password(value)} ({name})"
    return None


def place_of(target: str, *, use_proxy: bool = False) -> str:
    """host:port for a message, with the proxy on the way if there is one."""
    proxy = proxy_of(target, use_proxy=use_proxy)
    return target if proxy is None else f"{target} through the proxy {proxy}"


def _host(target: str) -> str:
    rest = _SCHEME.sub("", target)
    host = rest if rest.count(":") > 1 and "]" not in rest else rest.rpartition(":")[0] or rest
    return host.strip("[]").lower().rstrip(".")


def _is_excepted(host: str) -> bool:
    listed = next((value for name in EXCEPTIONS if (value := os.environ.get(name))), "")
    return any(_covers(entry.strip().lower(), host) for entry in listed.split(",") if entry.strip())


def _covers(entry: str, host: str) -> bool:
    """As gRPC reads an entry of no_proxy: the end of a name, or a range of addresses."""
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return host.endswith(entry)


def _without_password(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
