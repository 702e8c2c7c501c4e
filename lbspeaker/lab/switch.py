"""The switch of the lab: it writes down every ARP and neighbour discovery frame, and shuts ports that storm.

The kernel's bridge forwards. Beside it this process, inside the namespace `switch`, has one packet socket per
port and counts what *enters* from there, with the kernel's time stamps. With a guard it does what access
switches do by default under Dynamic ARP Inspection: more than N ARP frames from a guarded port in any one
second, and the port goes down until a person brings it back. Neighbour discovery is only written down.

Its log is one JSON object a line (`frames.Event`); `Switch` reads it.
"""

import argparse
import contextlib
import ctypes
import errno
import fcntl
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import BinaryIO

import msgspec

from lbspeaker.errors import Unavailable
from lbspeaker.lab import frames, namespaces
from lbspeaker.lab.frames import Event, Frame, Kind, Lost, PortDown, PortGuard, Ready

DEFAULT_GUARD_PPS = 15  # Dynamic ARP Inspection on an untrusted port

_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_IGNORE_OUTGOING = 263, 6, 23
_SO_ATTACH_FILTER, _SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 26, 35, 33
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_RECEIVE_BUFFER = 8 << 20  # bytes; holds a storm of 10,000 frames while this process waits for a core

# Classic BPF (code, jump if true, jump if false, k): ARP, or ICMPv6 of type 135 or 136; 128 bytes of it.
_FILTER = [
    (0x28, 0, 0, 12),  # the EtherType
    (0x15, 6, 0, 0x0806),
    (0x15, 0, 6, 0x86DD),
    (0x30, 0, 0, 20),  # IPv6's next header
    (0x15, 0, 4, 58),
    (0x30, 0, 0, 54),  # ICMPv6's type
    (0x35, 0, 2, 135),
    (0x25, 1, 0, 136),
    (0x06, 0, 0, 128),  # keep
    (0x06, 0, 0, 0),  # drop
]


class Switch:
    """The switch as the lab's owner sees it: what it wrote down, and its ports."""

    def __init__(self, namespace: str, log: Path) -> None:
        self.namespace = namespace
        self.log = log
        self._read = 0  # bytes of the log that are in _events
        self._events: list[Event] = []

    def events(self) -> list[Event]:
        """Return everything the switch wrote down so far."""
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as log:
            log.seek(self._read)
            whole = log.read().rpartition(b"\n")[0]
            if whole:
                self._read += len(whole) + 1
                self._events += [frames.parse(line) for line in whole.splitlines()]
        return self._events

    def frames(
        self,
        port: str | None = None,
        kind: Kind | None = None,
        *,
        protocol: str | None = None,
        since: float = 0.0,
    ) -> list[Frame]:
        """Return the frames from `port` (None: from any), of `kind`, that entered after `since` (epoch)."""
        return [
            event
            for event in self.events()
            if isinstance(event, Frame)
            and (port is None or event.port == port)
            and (kind is None or event.kind == kind)
            and (protocol is None or event.protocol == protocol)
            and event.time > since
        ]

    def peak(
        self,
        port: str,
        window_s: float = 1.0,
        kind: Kind | None = None,
        *,
        protocol: str = "arp",
        since: float = 0.0,
    ) -> int:
        """Return the greatest number of frames that entered from `port` within any window of this length."""
        seen = self.frames(port, kind, protocol=protocol, since=since)
        return frames.peak([frame.time for frame in seen], window_s)

    def shut(self, since: float = 0.0) -> list[PortDown]:
        """Return every time the guard brought a port down, oldest first."""
        return [event for event in self.events() if isinstance(event, PortDown) and event.time > since]

    def ports_down(self) -> list[str]:
        """Return the ports that are down now, for whatever cause."""
        done = namespaces.run(self.namespace, ["ip", "-j", "link", "show", "master", "br0"])
        links = msgspec.json.decode(done.stdout or "[]")
        return sorted(link["ifname"] for link in links if "UP" not in link["flags"])

    def lost(self) -> int:
        """Return how many frames are missing from the log; known only once the switch has ended."""
        return sum(event.frames for event in self.events() if isinstance(event, Lost))

    def restore(self, port: str) -> None:
        """Bring a port up again, as the person at the switch would."""
        namespaces.configure(self.namespace, [f"link set {port} up"])

    def wait_ready(self, patience_s: float = 10.0) -> None:
        """Return when every frame is being written down. Raises Unavailable if that does not happen."""
        deadline = time.monotonic() + patience_s
        while not any(isinstance(event, Ready) for event in self.events()):
            if time.monotonic() > deadline:
                raise Unavailable(f"the switch was not ready within {patience_s:.0f} s", f"see {self.log}")
            time.sleep(0.005)


def argv(ports: Iterable[str], log: Path, guard_pps: int | None, guarded: Iterable[str]) -> list[str]:
    """Return the command line of the switch process, to be run inside its namespace."""
    line = [sys.executable, "-m", "lbspeaker.lab.switch", "--log", str(log)]
    if guard_pps is not None:
        line += ["--guard-pps", str(guard_pps), *(f"--guarded={port}" for port in guarded)]
    return [*line, *ports]


class _Process:
    """One packet socket per port, one log, and the guards of the guarded ports."""

    def __init__(self, ports: Sequence[str], log: BinaryIO, guards: dict[str, PortGuard]) -> None:
        self.log = log
        self.guards = guards
        self.sockets = {
            packet.fileno(): (port, packet) for port in ports for packet in [_packet_socket(port)]
        }
        self.control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # for the ports' flags

    def run(self) -> None:
        poller = select.epoll()
        for descriptor in self.sockets:
            poller.register(descriptor, select.EPOLLIN)
        self._write([Ready(time.time())])
        while True:
            events: list[Event] = []
            for descriptor, _ in poller.poll():
                port, packet = self.sockets[descriptor]
                events += self._receive(port, packet)
            self._write(events)

    def finish(self) -> None:
        for port, packet in self.sockets.values():
            statistics = packet.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
            if dropped := struct.unpack("II", statistics)[1]:
                self._write([Lost(time.time(), port, dropped)])

    def _receive(self, port: str, packet: socket.socket) -> list[Event]:
        events: list[Event] = []
        guard = self.guards.get(port)
        for _ in range(256):  # then the other ports have their turn
            try:
                data, ancillary, _, _ = packet.recvmsg(128, 64)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ENETDOWN:  # told once; it works again when the port is up
                    break
                raise
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
            frame = frames.decode(data, seconds + nanoseconds / 1e9, port)
            if frame is None:
                continue
            events.append(frame)
            if guard and frame.protocol == "arp" and (seen := guard.arrive(frame.time)):
                self._shut(port)
                events.append(PortDown(frame.time, port, seen, guard.limit))
        return events

    def _shut(self, port: str) -> None:
        """Take the port's link down (netdevice(7)): by a system call, because a storm does not wait."""
        request = struct.pack("16sH22x", port.encode(), 0)
        flags: int = struct.unpack("16sH22x", fcntl.ioctl(self.control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(self.control, _SIOCSIFFLAGS, struct.pack("16sH22x", port.encode(), flags & ~_IFF_UP))

    def _write(self, events: Sequence[Event]) -> None:
        if events:
            self.log.write(b"".join(msgspec.json.encode(event) + b"\n" for event in events))


def _packet_socket(port: str) -> socket.socket:
    """A socket that receives what enters from `port`; the filter is there before the first frame."""
    packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    packet.setblocking(False)
    try:
        packet.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    except PermissionError:  # in a user namespace: as much as everybody may have
        packet.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _FILTER)
    held = ctypes.create_string_buffer(program)
    fprog = struct.pack("HL", len(_FILTER), ctypes.addressof(held))
    packet.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
    packet.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    packet.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    packet.bind((port, _ETH_P_ALL))
    return packet


def main() -> None:
    """Be the switch process; SIGTERM ends it."""
    parser = argparse.ArgumentParser(prog="lbspeaker.lab.switch")
    parser.add_argument("ports", nargs="+")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--guard-pps", type=int, default=DEFAULT_GUARD_PPS)
    parser.add_argument("--guarded", action="append", default=[])
    options = parser.parse_args()
    guards = {port: PortGuard(options.guard_pps) for port in options.guarded}
    with options.log.open("ab", buffering=0) as log:
        process = _Process(options.ports, log, guards)

        def finish(_number: int, _frame: FrameType | None) -> None:
            process.finish()
            sys.exit(0)

        signal.signal(signal.SIGTERM, finish)
        process.run()


if __name__ == "__main__":
    main()
