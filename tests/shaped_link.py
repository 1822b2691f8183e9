"""A link between two network namespaces, shaped by the kernel's own queues (tc tbf). Linux and root only.

The edge runs in the namespace, the cloud outside; what is shaped is the way up. Where the kernel has netem,
the link is also late.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

NEAR, FAR = "10.213.7.1", "10.213.7.2"
DELAY_MS = 20


class NoShaping(Exception):
    """This machine cannot do it; the message says why."""


class ShapedLink:
    """`near` is the cloud's address, `far` the edge's; `prefix` runs a command on the edge's side."""

    near, far = NEAR, FAR

    def __init__(self, name: str) -> None:
        self._name = name
        self._inside = f"{name}i"
        self.prefix = ["ip", "netns", "exec", name]
        self.delayed = False

    def up(self) -> None:
        outside = f"{self._name}o"
        _run("ip", "netns", "add", self._name)
        _run("ip", "link", "add", outside, "type", "veth", "peer", "name", self._inside, "netns", self._name)
        _run("ip", "addr", "add", f"{NEAR}/30", "dev", outside)
        _run("ip", "link", "set", outside, "up")
        _run(*self.prefix, "ip", "addr", "add", f"{FAR}/30", "dev", self._inside)
        for device in ("lo", self._inside):
            _run(*self.prefix, "ip", "link", "set", device, "up")
        try:
            _run("tc", "qdisc", "add", "dev", outside, "root", "netem", "delay", f"{DELAY_MS}ms")
            self.delayed = True
        except NoShaping:
            pass  # a kernel without netem: the link is not late, which changes nothing of its rate
        self.limit(10_000)

    def limit(self, kbps: float) -> None:
        """What the way up carries from now on."""
        shape = ["tbf", "rate", f"{kbps:.0f}kbit", "burst", "4kb", "latency", "400ms"]
        _run(*self.prefix, "tc", "qdisc", "replace", "dev", self._inside, "root", *shape)

    def down(self) -> None:
        subprocess.run(["ip", "netns", "del", self._name], capture_output=True, check=False)


@contextmanager
def shaped_link() -> Iterator[ShapedLink]:
    """NoShaping: not Linux, not root, or no tbf in the kernel."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("tc"):
        raise NoShaping("network namespaces and tc need Linux, root and iproute2")
    link = ShapedLink(f"sc{os.getpid() % 100_000}")
    try:
        link.up()
        yield link
    finally:
        link.down()


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoShaping(f"{' '.join(words)}: {done.stderr.strip()}")
