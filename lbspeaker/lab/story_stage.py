"""Where the demo happens, and how it waits: every wait is bounded, and the viewer sees the wire meanwhile."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar

from rich.table import Table
from rich.text import Text

from lbspeaker.core.guard import PROFILES, Profile
from lbspeaker.lab.frames import Frame, peak
from lbspeaker.lab.lab import Lab
from lbspeaker.lab.story_cluster import Births
from lbspeaker.lab.story_screen import Screen
from lbspeaker.lab.switch import DEFAULT_GUARD_PPS
from lbspeaker.lab.topology import CLIENT

T = TypeVar("T")

LIMIT = DEFAULT_GUARD_PPS
BUDGET = 12  # frames in any second that a port may carry: the switch's limit, and some air

_TICK_S = 0.05


@dataclass(slots=True)
class Stage:
    """One lab with its Services, and the screen."""

    lab: Lab
    screen: Screen
    services: int
    guard: str
    births: Births = field(default_factory=Births)
    begin: float = 0.0  # of the chapter, epoch: what the live view counts from

    @property
    def profile(self) -> Profile:
        return PROFILES[self.guard]

    @property
    def ips(self) -> list[str]:
        """Every service IP, in the order of their Services."""
        return [ip for _, ip in sorted(self.births.ips.items())]

    @property
    def ports(self) -> list[str]:
        return [node.name for node in self.lab.nodes]

    def frames(self, port: str | None = None, since: float | None = None) -> list[Frame]:
        """Return the ARP frames from a node (None: from all nodes) since then, or since the chapter began."""
        moment = self.begin if since is None else since
        seen = self.lab.switch.frames(port, protocol="arp", since=moment)
        return [frame for frame in seen if frame.port in self.ports]

    def gratuitous(self, since: float | None = None) -> list[Frame]:
        return [frame for frame in self.frames(since=since) if frame.kind == "gratuitous"]

    def peak(self, port: str, since: float | None = None) -> int:
        return peak([frame.time for frame in self.frames(port, since)])

    def down(self) -> list[str]:
        """The ports that the switch shut in this chapter."""
        return sorted({event.port for event in self.lab.switch.shut(self.begin)})

    def busiest(self, since: float | None = None) -> str:
        """The node whose port had the most frames in any second."""
        return max(self.ports, key=lambda port: (self.peak(port, since), len(self.frames(port, since))))


# --- waiting --------------------------------------------------------------------------------------------


def until(stage: Stage, done: Callable[[], bool], patience_s: float) -> bool:
    """Wait until `done`; False if it is not within `patience_s`."""
    deadline = time.monotonic() + patience_s
    while not done():
        if time.monotonic() > deadline:
            return False
        stage.screen.tick()
        time.sleep(_TICK_S)
    return True


def during(stage: Stage, work: Callable[[], T]) -> T:
    """Return what `work`, which bounds itself, returns; the viewer sees the wire meanwhile."""
    future: Future[T] = Future()

    def perform() -> None:
        try:
            future.set_result(work())
        except BaseException as failure:  # carried to the viewer's thread, whatever it is
            future.set_exception(failure)

    # a daemon: whoever interrupts the demo does not wait for it
    threading.Thread(target=perform, name="work", daemon=True).start()
    while not future.done():
        stage.screen.tick()
        time.sleep(_TICK_S)
    return future.result()


def quiet(stage: Stage, for_s: float, patience_s: float) -> bool:
    """Wait until no node has sent an ARP frame for so long."""
    began = time.time()

    def is_quiet() -> bool:
        last = max((frame.time for frame in stage.frames()), default=0.0)
        return time.time() - max(last, began) >= for_s

    return until(stage, is_quiet, patience_s)


def told(stage: Stage, since: float, patience_s: float) -> bool:
    """Wait until the segment has been told of every service IP since then; in vain, if a port goes down."""
    wanted = set(stage.ips)

    def is_told() -> bool:
        return wanted <= {frame.sender for frame in stage.gratuitous(since)}

    until(stage, lambda: is_told() or bool(stage.down()), patience_s)
    return is_told()


def owners(stage: Stage) -> dict[str, str]:
    """Return the node that the client believes to have each service IP: its own neighbour table says so."""
    names = {node.mac.hex(":"): node.name for node in stage.lab.nodes}
    listing = stage.lab.exec(CLIENT, ["ip", "-4", "neighbour", "show", "dev", "eth0"]).stdout
    rows = [line.split() for line in listing.splitlines()]
    known = {row[0]: names.get(row[row.index("lladdr") + 1], "") for row in rows if "lladdr" in row}
    return {ip: known[ip] for ip in stage.ips if known.get(ip)}


def forget(stage: Stage) -> None:
    """Let the client forget who has the service IPs, so that it asks the segment again."""
    for ip in owners(stage):
        stage.lab.exec(CLIENT, ["ip", "neighbour", "delete", ip, "dev", "eth0"])


def answerers(stage: Stage, since: float) -> dict[str, set[str]]:
    """Return the ports from which each service IP was answered for since then: one, if all is well."""
    found: dict[str, set[str]] = {}
    for frame in stage.frames(since=since):
        if frame.kind == "answer":
            found.setdefault(frame.sender, set()).add(frame.port)
    return {ip: ports for ip, ports in found.items() if ip in stage.ips}


def pacing_s(stage: Stage, frames: int) -> float:
    """The guard's own arithmetic: how long the last of so many frames waits on one link."""
    return max(0.0, (frames - stage.profile.burst) / stage.profile.rate)


# --- the live view --------------------------------------------------------------------------------------


def wire(stage: Stage) -> tuple[Table, str]:
    """Return the ports of the switch as they are now: a table, and the same in one line."""
    table = Table(box=None, padding=(0, 2))
    for column in ("PORT", "ARP FRAMES", "PEAK/S"):
        table.add_column(column, justify="left" if column == "PORT" else "right")
    table.add_column(f"IN THE LAST SECOND, OF {LIMIT}")
    now = time.time()
    down = stage.down()
    words = []
    for port in stage.ports:
        times = [frame.time for frame in stage.frames(port)]
        recent, most = sum(t > now - 1.0 for t in times), peak(times)
        bar = Text("█" * min(recent, LIMIT) + "·" * (LIMIT - recent) + f" {recent}", "green")
        state = Text("port down", "bold red") if port in down else bar
        table.add_row(port, str(len(times)), str(most), state)
        words.append(f"{port} {len(times)} (peak {most}/s{', DOWN' if port in down else ''})")
    served = len(stage.births.ips)
    table.title = f"Services with an IP: {served} of {stage.services}"
    return table, f"Services with an IP {served}/{stage.services} · ARP frames {' · '.join(words)}"
