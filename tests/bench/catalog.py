"""Every benchmark by its name. Each is independent of the others and cleans up after itself."""

from collections.abc import Callable

from tests.bench import (
    allocation,
    answers,
    assign,
    bfd,
    bgp_bursts,
    bgp_routes,
    bgp_sessions,
    bgp_speaker,
    failover,
    latency,
    memory,
    overview,
    owners,
    restart,
    resync,
    scrape,
    storm,
    takeover,
)
from tests.bench.results import Result
from tests.lab.apiserver_backends import real_binaries

ALL: dict[str, Callable[[], list[Result]]] = {
    "allocation-pass": allocation.allocation_pass,
    "restart-10000": restart.restart,
    "speaker-memory": memory.speaker_memory,
    "scrape-1000": scrape.scrape,
    "status-10000": overview.overview,
    "ip-latency": latency.in_memory,
    "storm-50": storm.storm_50,
    "storm-1000": storm.storm_1000,
    "strict-50": storm.strict_50,
    "resync": resync.resync,
    "takeover-1000": takeover.takeover,
    "failover": failover.failover,
    "two-owners": owners.two_owners,
    "answers": answers.answers,
    "bfd": bfd.bfd,
    "assign-10000": assign.in_memory,
    "bgp-latency": bgp_routes.latency,
    "bgp-10000": bgp_routes.ten_thousand,
    "bgp-bursts": bgp_bursts.bursts,
    "bgp-restart": bgp_sessions.restart,
    "bgp-return": bgp_sessions.away,
    "bgp-speaker": bgp_speaker.speaker,
}
if real_binaries():
    ALL |= {"ip-latency-real": latency.real, "assign-10000-real": assign.real}
