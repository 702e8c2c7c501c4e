"""What a speaker keeps in memory when there are a thousand Services."""

import subprocess
import sys
import time

from tests.bench import cluster
from tests.bench.api import Api
from tests.bench.manifests import services
from tests.bench.results import Goal, Reference, Result, result

COUNT = 1000
_SETTLE_S = 3.0


def speaker_memory() -> list[Result]:
    bare = [_bare_mib() for _ in range(3)]
    with cluster.lab(guard="fast") as lab:
        client = cluster.client_of(lab)
        began = cluster.create(client, services(COUNT))
        with Api(client) as api:
            cluster.until(lambda: len(cluster.assigned(api)) >= COUNT, 120, f"IPs of {COUNT} Services")
        cluster.until(lambda: cluster.announced(lab, began) >= COUNT, 120, "their announcements")
        time.sleep(_SETTLE_S)
        pids = [lab.processes[f"speaker-{node.name}"].pid for node in lab.nodes]
        found = [cluster.resident_mib(pid) for pid in pids]
    return [
        result(
            "speaker-memory",
            "MiB resident",
            found,
            Reference("bare asyncio", bare),
            Goal("<", 100),
            pick="max",
        )
    ]


def _bare_mib() -> float:
    """Return the resident MiB of a Python that has an event loop and nothing else."""
    program = "import asyncio; print(flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        process.stdout.readline()
        return cluster.resident_mib(process.pid)
    finally:
        process.kill()
        process.wait()
