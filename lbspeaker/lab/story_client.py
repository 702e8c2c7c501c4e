"""The client of the demo: it asks service IPs by HTTP, once or all the time, from where it is in the lab."""

import asyncio
import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from lbspeaker.lab import namespaces
from lbspeaker.lab.lab import Lab

_ATTEMPT_S = 1.0  # then it is a new connection: so late an answer would not have come by itself
_PAUSE_S = 0.05
_FAILURES = (OSError, TimeoutError, EOFError)


async def fetch(ip: str, timeout_s: float = _ATTEMPT_S) -> str:
    """Return the name of the pod that answers http://IP/ on a new connection. Raises one of _FAILURES."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(ip, 80)
        try:
            writer.write(f"GET / HTTP/1.1\r\nHost: {ip}\r\n\r\n".encode())
            _, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
    if not body:
        raise EOFError(f"{ip} closed the connection without an answer")
    return body.split()[0].decode()


def reach(lab: Lab, member: str, ips: Iterable[str], patience_s: float) -> dict[str, str]:
    """Ask every IP at once, again and again until it answers; return who answered, by IP."""

    async def insist(ip: str) -> str:
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            try:
                return await fetch(ip, min(patience_s, 3 * _ATTEMPT_S))
            except _FAILURES:
                await asyncio.sleep(_PAUSE_S)
        return ""

    async def ask(wanted: list[str]) -> dict[str, str]:
        pods = await asyncio.gather(*map(insist, wanted))
        return {ip: pod for ip, pod in zip(wanted, pods, strict=True) if pod}

    return namespaces.inside(lab.topology.namespace(member), lambda: asyncio.run(ask(list(ips))))


class Prober:
    """Asks IPs all the time, each `every` so many seconds, on new connections, waiting for nobody."""

    def __init__(self, lab: Lab, member: str, every: Mapping[str, float]) -> None:
        self._every = every
        self._stop = threading.Event()
        self._answered: dict[str, list[float]] = {ip: [] for ip in every}
        namespace = lab.topology.namespace(member)
        self._thread = threading.Thread(
            target=lambda: namespaces.inside(namespace, lambda: asyncio.run(self._run())),
            name="prober",
            daemon=True,
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> dict[str, list[float]]:
        """End, and return when (monotonic) answers came, by IP."""
        self._stop.set()
        self._thread.join()
        return self._answered

    def answers_since(self, moment: float) -> set[str]:
        """Return the IPs that have answered since."""
        return {ip for ip, times in self._answered.items() if times and times[-1] > moment}

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for ip, every_s in self._every.items():
                tasks.create_task(self._probe(ip, every_s))

    async def _probe(self, ip: str, every_s: float) -> None:
        async with asyncio.TaskGroup() as attempts:
            due = time.monotonic()
            while not self._stop.is_set():
                attempts.create_task(self._attempt(ip))
                due = max(due + every_s, time.monotonic())
                await asyncio.sleep(due - time.monotonic())

    async def _attempt(self, ip: str) -> None:
        try:
            await fetch(ip)
        except _FAILURES:
            return
        self._answered[ip].append(time.monotonic())


def longest_gap(answers: Sequence[float], begin: float, end: float) -> float:
    """Return the longest time without an answer between `begin` and `end`, in seconds."""
    within = sorted(time for time in answers if begin <= time <= end)
    return max(b - a for a, b in zip([begin, *within], [*within, end], strict=True))
