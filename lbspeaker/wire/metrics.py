"""What a program says of itself, as metrics of Prometheus (text exposition format 0.0.4).

Values in, families out; nothing is registered anywhere. Names are `lbspeaker_…`, units are in them, counters
end in `_total` and begin with the program. No label has a value for each Service; IPs are labels only where
something is wrong with them, and MOST of them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from lbspeaker.model import Distribution
from lbspeaker.wire.measures import Count, Measures

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
MOST = 50  # rows of what is wrong; how many there are, another metric says
PREFIX = "lbspeaker_"

Labels = tuple[str, ...]
Samples = Iterable[tuple[Labels, float]]


class _Families:
    """What the library wants in place of a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def text(families: Iterable[Metric]) -> bytes:
    """Return what a scrape gets."""
    return generate_latest(_Families(families))


# --- families -------------------------------------------------------------------------------------------


def filled(family: GaugeMetricFamily | CounterMetricFamily | UnknownMetricFamily, samples: Samples) -> Metric:
    """The family, with these samples."""
    for values, value in samples:
        family.add_metric(values, float(value))
    return family


def gauge(name: str, help_: str, labels: Sequence[str], samples: Samples) -> Metric:
    return filled(GaugeMetricFamily(PREFIX + name, help_, labels=labels), samples)


def counter(name: str, help_: str, labels: Sequence[str], samples: Samples) -> Metric:
    """A family of counters; `name` ends in _total."""
    return filled(CounterMetricFamily(PREFIX + name, help_, labels=labels), samples)


def one(name: str, help_: str, value: float) -> Metric:
    return gauge(name, help_, (), [((), value)])


def histogram(
    name: str, help_: str, labels: Sequence[str], samples: Iterable[tuple[Labels, Distribution]]
) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, help_, labels=labels)
    for values, taken in samples:
        bounds = [f"{bound:g}" for bound in taken.bounds_s]
        buckets = [*zip(bounds, map(float, taken.at_most), strict=True), ("+Inf", float(taken.count))]
        family.add_metric(values, buckets, taken.sum_s)
    return family


def counted(
    counts: Mapping[Count, int], what: str, name: str, help_: str, label: str, words: Sequence[str]
) -> Metric:
    """A family of counters out of `counts`; those of `words` are there from the beginning, at 0."""
    known = dict.fromkeys(words, 0) | {word: count for (kind, word), count in counts.items() if kind == what}
    return counter(name, help_, (label,), [((word,), count) for word, count in sorted(known.items())])


def total(counts: Mapping[Count, int], what: str, name: str, help_: str) -> Metric:
    return counter(name, help_, (), [((), counts.get((what, ""), 0))])


# --- of both programs -----------------------------------------------------------------------------------

METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT", "WATCH")


def common(measures: Measures) -> Iterator[Metric]:
    """What both programs say."""
    counts, at_work = measures.counts, (measures.program, measures.version)
    yield gauge("build_info", "Always 1; which program this is, and its version.", PROGRAM, [(at_work, 1)])
    yield one("ready", "Whether it is ready, as /readyz says.", measures.ready)
    help_ = "What each turn of its loop took: note what is new, decide, hand out the work."
    yield histogram("turn_duration_seconds", help_, (), [((), measures.turns)])
    yield counted(counts, "changes", "changes_total", "Changes that it was told of, by kind.", "kind", ())
    requests = dict.fromkeys(METHODS, 0) | dict(measures.requests)
    help_ = "Requests to the API server; a watch counts when it begins."
    yield counter("api_requests_total", help_, ("method",), [((m,), n) for m, n in sorted(requests.items())])
    help_ = "Requests that failed, by why; a Conflict is normal, it is decided anew."
    errors = sorted(measures.api_errors.items())
    yield counter("api_errors_total", help_, ("method", "reason"), errors)
    yield from _configuration(measures)


PROGRAM = ("program", "version")


def _configuration(measures: Measures) -> Iterator[Metric]:
    found = measures.configured
    loaded = [((), found is not None)] if measures.follows else []
    yield gauge("configuration_loaded", "Whether there is a configuration in force.", (), loaded)
    help_ = "When this program took over the configuration in force (Unix time)."
    yield gauge("configuration_timestamp_seconds", help_, (), [((), found.since)] if found else [])
    help_ = "The same number wherever the same configuration is in force."
    yield gauge("configuration_hash", help_, (), [((), found.hash)] if found else [])
    verdicts: dict[str, int] = {}
    if found is not None:
        right = found.accepted - found.doubtful
        verdicts = {"accepted": right, "doubtful": found.doubtful, "refused": found.refused}
    rows = [((verdict,), count) for verdict, count in verdicts.items()]
    yield gauge("configuration_objects", "Configuration objects, by verdict.", ("verdict",), rows)
