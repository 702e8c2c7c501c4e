"""From a Service that is created to its IP in the status, and to the first answer on the wire.

A new IP is probed before it is answered, which takes 250 ms; so it is measured without probes, too.

One Service after another, so that nothing waits in a line. The reference is what the API server needs for
the two writes alone: a Service that no controller serves is created, and its status patched by the benchmark.
"""

import json
import time
from ipaddress import IPv4Address

from lbspeaker.core.voice import PROBE_WAIT_S
from lbspeaker.errors import Unavailable
from lbspeaker.lab.lab import Lab
from tests.bench import cluster, servers
from tests.bench.api import SERVICES, Api, Watch
from tests.bench.asker import Asker
from tests.bench.manifests import FIRST, service
from tests.bench.results import Goal, Reference, Result, result
from tests.lab.apiserver_backends import Client

COUNT = 50
_PATIENCE_S = 10.0
_ASK_EVERY_S = 0.002
_PAUSE_S = 0.05  # between two, so that each finds everybody idle


def in_memory() -> list[Result]:
    with cluster.lab() as lab:
        return _latency("ip-latency", lab, cluster.client_of(lab))


def real() -> list[Result]:
    with servers.real() as client, cluster.lab(client=client) as lab:
        return _latency("ip-latency-real", lab, client)


def _latency(name: str, lab: Lab, client: Client) -> list[Result]:
    with Api(client) as api, cluster.asker(lab) as asker, Watch(client, SERVICES) as watch:
        _until_ip(api, watch, "warm-up")
        bare = [_bare(api, watch, f"bare{number}", FIRST + 9000 + number) for number in range(COUNT)]
        ip = [_until_ip(api, watch, f"ip{number}") for number in range(COUNT)]
        first = [
            _until_answer(api, asker, f"answer{number}", FIRST + 1000 + number) for number in range(COUNT)
        ]
        cluster.set_policy(api, {"dad": "off"})
        unprobed = [
            _until_answer(api, asker, f"unprobed{number}", FIRST + 2000 + number) for number in range(COUNT)
        ]
    reference = Reference("bare create and patch, seen by a watch", bare)
    worst = Reference(reference.what, bare, "max")
    return [
        result(f"{name}/ip", "ms", ip, reference, Goal("<", 50)),
        result(f"{name}/ip-worst", "ms", ip, worst, pick="max"),
        result(f"{name}/answer", "ms", first, reference, Goal("<", PROBE_WAIT_S * 1000 + 100)),
        result(f"{name}/answer-worst", "ms", first, worst, pick="max"),
        result(f"{name}/answer-unprobed", "ms", unprobed, reference, Goal("<", 100)),
        result(f"{name}/answer-unprobed-worst", "ms", unprobed, worst, pick="max"),
    ]


def _bare(api: Api, watch: Watch, name: str, ip: IPv4Address) -> float:
    """Return the milliseconds until the watch tells of a status that the benchmark itself wrote."""
    time.sleep(_PAUSE_S)
    status = {"status": {"loadBalancer": {"ingress": [{"ip": str(ip), "ipMode": "VIP"}]}}}
    began = time.time()
    api.request("POST", SERVICES, service(name, loadBalancerClass="example.com/nobody"))
    api.request("PATCH", f"{SERVICES}/{name}/status", json.dumps(status).encode())
    return (watch.ip_of(name, _PATIENCE_S)[0] - began) * 1000


def _until_ip(api: Api, watch: Watch, name: str) -> float:
    """Return the milliseconds from the request to create until the watch tells of an IP."""
    time.sleep(_PAUSE_S)
    began = time.time()
    api.request("POST", SERVICES, service(name))
    return (watch.ip_of(name, _PATIENCE_S)[0] - began) * 1000


def _until_answer(api: Api, asker: Asker, name: str, ip: IPv4Address) -> float:
    """Return the milliseconds until an answer for the IP that the Service asks for."""
    time.sleep(_PAUSE_S)
    asker.answered(0.0)
    began = time.time()
    api.request("POST", SERVICES, service(name, loadBalancerIP=str(ip)))
    while time.time() < began + _PATIENCE_S:
        asker.ask(ip.packed)
        if ip.packed in asker.answered(_ASK_EVERY_S):
            return (time.time() - began) * 1000
    raise Unavailable(f"{ip} of Service {name} was not answered for within {_PATIENCE_S:.0f} s")
