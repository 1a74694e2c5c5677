"""The internet, as far as tests need it: no packet leaves the machine."""

from __future__ import annotations

import subprocess
import uuid


class PublicHost:
    """A machine with a public address, played by a network namespace that the host routes to."""

    def __init__(self) -> None:
        number = uuid.uuid4().int
        self.name = f"ldt{number % 10**8:08d}"
        self.address = f"203.0.113.{number % 250 + 2}"
        subnet = number // 250 % 60 * 4
        self.host, self.peer = f"198.51.100.{subnet + 1}", f"198.51.100.{subnet + 2}"

    def __enter__(self) -> PublicHost:
        for line in (
            f"netns add {self.name}",
            f"link add {self.name}h type veth peer name {self.name}p netns {self.name}",
            f"addr add {self.host}/30 dev {self.name}h",
            f"link set {self.name}h up",
            f"-n {self.name} addr add {self.peer}/30 dev {self.name}p",
            f"-n {self.name} addr add {self.address}/32 dev lo",
            f"-n {self.name} link set lo up",
            f"-n {self.name} link set {self.name}p up",
            f"-n {self.name} route add default via {self.host}",
            f"route add {self.address}/32 via {self.peer}",
        ):
            subprocess.run(["ip", *line.split()], check=True)
        self._server = subprocess.Popen(
            ["ip", "netns", "exec", self.name, "python3", "-c",
             "import socket; s = socket.create_server(('0.0.0.0', 8080)); print('up', flush=True)\n"
             "while True: c, _ = s.accept(); c.close()"],
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == b"up\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.communicate()
        subprocess.run(["ip", "link", "del", f"{self.name}h"], check=False)
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    def also(self, address: str) -> None:
        """Give the machine one more address, which the host reaches too."""
        for line in (f"-n {self.name} addr add {address}/32 dev lo", f"route add {address}/32 via {self.peer}"):
            subprocess.run(["ip", *line.split()], check=True)
