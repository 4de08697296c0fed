"""Two machines in network namespaces of this one, joined by one cable (Linux, as root)."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ADDRESSES = ("10.213.7.1", "10.213.7.2")
"""Of the machines, which nobody outside sees."""


class UnavailableError(Exception):
    """Why there can be no such machines here."""


class Nodes:
    """What can be done with the machines 0 and 1."""

    def __init__(self, ip: str, name: str) -> None:
        self._ip = functools.partial(_ip, ip)
        self._inside = [ip, "netns", "exec"]
        self.names, self._cables = (f"{name}a", f"{name}b"), (f"{name}va", f"{name}vb")
        self._ports = itertools.count(29500)

    def build(self) -> None:
        for name in self.names:
            self._ip("netns", "add", name)
        first, second = self._cables
        self._ip("link", "add", first, "netns", self.names[0], "type", "veth", "peer", second, "netns", self.names[1])
        for name, cable, address in zip(self.names, self._cables, ADDRESSES, strict=True):
            self._ip("-n", name, "addr", "add", f"{address}/24", "dev", cable)
            self._ip("-n", name, "link", "set", "lo", "up")
        self.join()

    def join(self) -> None:
        for name, cable in zip(self.names, self._cables, strict=True):
            self._ip("-n", name, "link", "set", cable, "up")

    def cut(self) -> None:
        self._ip("-n", self.names[1], "link", "set", self._cables[1], "down")

    def kill(self, node: int) -> None:
        """Every process of a machine, at once and with no time to say anything."""
        for process in self._ip("netns", "pids", self.names[node]).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)

    def remove(self) -> None:
        for node, name in enumerate(self.names):
            with contextlib.suppress(UnavailableError):
                self.kill(node)
                self._ip("netns", "del", name)

    @contextlib.contextmanager
    def run(self, arguments: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str]]]:
        """`gradaug` in one process a machine, by torchrun; what of it is left at the end is killed."""
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        torchrun += ["--master-addr", ADDRESSES[0], "--master-port", str(next(self._ports))]
        with contextlib.ExitStack() as stack:
            started = [
                stack.enter_context(
                    subprocess.Popen(
                        [*self._inside, name, *torchrun, "--node-rank", str(node), "-m", "gradaug", *arguments],
                        env={**os.environ, "GLOO_SOCKET_IFNAME": cable},
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                    )
                )
                for node, (name, cable) in enumerate(zip(self.names, self._cables, strict=True))
            ]
            for node in (0, 1):
                stack.callback(self.kill, node)
            yield started[0], started[1]


@contextlib.contextmanager
def two_nodes() -> Iterator[Nodes]:
    """They are gone at the end, with all that runs there. UnavailableError where they cannot be made."""
    ip = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if ip is None:
        raise UnavailableError("no command `ip` (package iproute2)")
    nodes = Nodes(ip, f"ga{os.getpid()}")
    try:
        nodes.build()
        yield nodes
    finally:
        nodes.remove()


def _ip(ip: str, *arguments: str) -> str:
    done = subprocess.run([ip, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise UnavailableError(f"`ip {' '.join(arguments)}` is not permitted: {done.stderr.strip()}")
    return done.stdout


def left_over() -> list[str]:
    """Namespaces of this process that are still there."""
    return [path.name for path in Path("/run/netns").glob(f"ga{os.getpid()}*")]
