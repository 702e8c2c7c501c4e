"""One segment: what one says, all others hear that are not cut off from it; and clients that believe it.

A frame is the product's `arp.Packet`, without bytes around it.
"""

from collections.abc import Callable, Iterable
from random import Random
from typing import Protocol

from lbspeaker.model import Hello
from lbspeaker.wire.arp import Packet
from tests.sim.clock import Heap

REQUEST, REPLY = b"\x00\x01", b"\x00\x02"
NOBODY = bytes(4)
DELAY_S = (0.0001, 0.005)
GATEWAY = "gateway"


class Station(Protocol):
    def frame(self, packet: Packet) -> None: ...
    def hello(self, said: Hello, gist: object, mac: bytes) -> None: ...


class Client:
    """A host that believes what it hears, as neighbours do."""

    def __init__(self, heap: Heap) -> None:
        self._heap = heap
        self.cache: dict[bytes, bytes] = {}
        self.at: dict[bytes, float] = {}

    def frame(self, packet: Packet) -> None:
        if packet.sender_ip != NOBODY:
            self.cache[packet.sender_ip] = packet.sender_mac
            self.at[packet.sender_ip] = self._heap.now

    def hello(self, said: Hello, gist: object, mac: bytes) -> None: ...


class Wire:
    """The segment. Stations are named; who is switched off is not among them."""

    def __init__(self, heap: Heap, random: Random, loss: float, copies: float) -> None:
        self._heap = heap
        self._random = random
        self.loss = loss
        self.copies = copies
        self.stations: dict[str, Station] = {}
        self.clients: dict[str, Client] = {}
        self._by_mac: dict[bytes, str] = {}
        self._deaf: set[tuple[str, str]] = set()  # (who speaks, who does not hear it)
        self.unplugged: set[str] = set()
        self.misses: set[str] = set()  # clients that were cut off from most of the segment, at some time

    # -- who hears whom --

    def join(self, name: str, station: Station, mac: bytes) -> None:
        self.stations[name] = station
        self._by_mac[mac] = name

    def add_client(self, name: str) -> Client:
        client = self.clients[name] = Client(self._heap)
        return client

    def split(self, one: Iterable[str], other: Iterable[str]) -> None:
        """These do not hear those, nor those these."""
        one, other = list(one), list(other)
        self.deafen(one, other)
        self.deafen(other, one)

    def deafen(self, speakers: Iterable[str], hearers: Iterable[str]) -> None:
        hearers = list(hearers)
        self._deaf |= {(speaker, hearer) for speaker in speakers for hearer in hearers}

    def unplug(self, name: str) -> None:
        self.unplugged.add(name)

    @property
    def whole(self) -> bool:
        return not self._deaf and not self.unplugged

    def heal(self) -> None:
        self._deaf.clear()

    def hears(self, hearer: str, speaker: str) -> bool:
        return (speaker, hearer) not in self._deaf and self.unplugged.isdisjoint((speaker, hearer))

    # -- saying --

    def broadcast(self, speaker: str, packet: Packet) -> None:
        for name in self.stations:
            if name != speaker:
                self._send(speaker, name, packet)
        for name, client in self.clients.items():
            if self.hears(name, speaker):
                self._heap.after(self._delay(), client.frame, packet)

    def unicast(self, speaker: str, mac: bytes, packet: Packet) -> None:
        name = self._by_mac.get(mac)
        if name in self.stations and name is not None:
            self._send(speaker, name, packet)

    def _send(self, speaker: str, hearer: str, packet: Packet) -> None:
        if not self.hears(hearer, speaker) or self._random.random() < self.loss:
            return
        self._heap.after(self._delay(), self._arrive, hearer, packet)
        if self._random.random() < self.copies:
            self._heap.after(self._delay(), self._arrive, hearer, packet)

    def _arrive(self, hearer: str, packet: Packet) -> None:
        station = self.stations.get(hearer)
        if station is not None:
            station.frame(packet)

    def hello(self, speaker: str, said: Hello, gist: object, mac: bytes) -> None:
        """Hellos are many, so all who hear one hear it at the same moment."""
        self._heap.after(self._delay(), self._hellos, speaker, said, gist, mac)

    def _hellos(self, speaker: str, said: Hello, gist: object, mac: bytes) -> None:
        roll, loss, trouble = self._random.random, self.loss, bool(self._deaf or self.unplugged)
        for name, station in list(self.stations.items()):
            if name == speaker or (trouble and not self.hears(name, speaker)) or (loss and roll() < loss):
                continue
            station.hello(said, gist, mac)
            if self.copies and roll() < self.copies:
                station.hello(said, gist, mac)

    def ask_gateway(self, speaker: str, answered: Callable[[], None]) -> None:
        """The default gateway answers, if question and answer arrive."""
        there = self.hears(GATEWAY, speaker) and self.hears(speaker, GATEWAY)
        if there and self._random.random() >= 2 * self.loss:
            self._heap.after(2 * self._delay(), answered)

    def _delay(self) -> float:
        low, high = DELAY_S
        return low + (high - low) * self._random.random()
