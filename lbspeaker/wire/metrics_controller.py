"""What a controller says of itself, as metrics. One that stands by knows no Services and no pools."""

from collections.abc import Iterator

from prometheus_client.core import Metric

from lbspeaker.wire.measures import Measures, OfController
from lbspeaker.wire.metrics import common, counted, gauge, one, total


def controller(measures: Measures, more: OfController) -> Iterator[Metric]:
    """Return all of it."""
    counts, leads = measures.counts, more.leads_since is not None
    yield from common(measures)
    yield one("leader", "1 for the controller that acts.", leads)
    since = [((), more.leads_since)] if more.leads_since is not None else []
    yield gauge("leader_timestamp_seconds", "Since when it acts (Unix time).", (), since)
    yield total(counts, "leaderships", "leaderships_total", "How often its turn began.")
    yield total(counts, "allocations", "allocations_total", "Services that were given IPs.")
    yield total(counts, "releases", "releases_total", "Services whose IPs were taken back.")
    help_ = "Services that were told that they get no IP, or lack something, by why."
    yield counted(counts, "refusals", "refusals_total", help_, "reason", ())
    yield total(counts, "unwritten", "writes_failed_total", "Writes to a Service's status that failed.")
    yield one("writes_waiting", "Services whose status is about to be written.", more.writes_waiting)
    help_ = "Whether what it accepted is what speakers are given."
    yield one("configuration_published", help_, more.published)
    waiting = sum(more.pending.values())
    states = [(("allocated",), more.allocated), (("pending",), waiting)] if leads else []
    help_ = "Services that are served here, by whether they have an IP."
    yield gauge("services", help_, ("state",), states)
    reasons = [((why,), count) for why, count in sorted(more.pending.items())]
    yield gauge("services_pending", "Services without an IP, by why.", ("reason",), reasons)
    reasons = [((why,), count) for why, count in sorted(more.lacking.items())]
    help_ = "Services that have an IP and lack something, by what."
    yield gauge("services_lacking", help_, ("reason",), reasons)
    yield from _pools(more)


def _pools(more: OfController) -> Iterator[Metric]:
    def rows(count: str) -> Iterator[tuple[tuple[str, ...], float]]:
        for name, pool in sorted(more.pools.items()):
            for family in (4, 6):
                if getattr(pool, f"size_v{family}") or getattr(pool, f"assigned_v{family}"):
                    yield (name, str(family)), getattr(pool, f"{count}_v{family}")

    labels = ("pool", "family")
    yield gauge("pool_size", "IPs that a pool has.", labels, rows("size"))
    help_ = "IPs that Services have; a shared one counts once."
    yield gauge("pool_used", help_, labels, rows("assigned"))
    help_ = "IPs that may be given now: 0 in a pool that is disabled or being deleted."
    yield gauge("pool_available", help_, labels, rows("available"))
    pending = [((name,), pool.pending) for name, pool in sorted(more.pools.items())]
    yield gauge("pool_pending", "Services that wait for an IP of the pool.", ("pool",), pending)
