"""What configuration objects are told, and who keeps a pool from being deleted."""

from dataclasses import replace
from typing import Any

import pytest

from lbspeaker.core.allocator import Result
from lbspeaker.core.book import Cooling
from lbspeaker.core.objects import FINALIZER, Objects, Protect, Report, pool_status
from lbspeaker.core.usage import usage
from lbspeaker.model import (
    MOST,
    Allocation,
    Condition,
    Config,
    ConfigSet,
    ObjectStatus,
    Pool,
    PoolStatus,
    Reason,
    Refusal,
    Released,
    Tally,
    Verdict,
    Written,
)
from tests.build import ip, ips, pool, span

LAN = pool("lan", "192.0.2.1-192.0.2.9")
KEY = "IPAddressPool/lan"
NOBODY: dict[str, str] = {}
EMPTY = PoolStatus(available_v4=9, size_v4=9)


def written(key: str = KEY, group: str = "lbspeaker.io/v1beta1", **fields: Any) -> Written:
    return Written(key, {"apiVersion": group}, generation=3, **fields)


class Stage:
    """An object with its verdict, the pool that it declares, and who has IPs of that."""

    def __init__(self, one: Written | None = None, lan: Pool | None = LAN) -> None:
        self.objects = Objects()
        self.now = one or written()
        self.objects.observe(self.now.key, self.now)
        self.pools = [lan] if lan else []
        self.verdicts = [Verdict(self.now.key, True, "")]
        self.holders = NOBODY
        self.doubts: dict[str, str] = {}
        self.cooling: dict[tuple[int, int], Cooling] = {}

    def due(self) -> list[Report | Protect]:
        results = {key: Allocation(ips(text), ("lan",)) for key, text in self.holders.items()}
        verdicts = tuple(replace(verdict, generation=3) for verdict in self.verdicts)
        config = ConfigSet(Config(tuple(self.pools)), verdicts=verdicts)
        return list(self.objects.advance(config, self.doubts, usage(results, self.pools), self.cooling))

    def told(self) -> ObjectStatus:
        (report,) = [effect for effect in self.due() if isinstance(effect, Report)]
        return report.status

    def echo(self, **fields: Any) -> None:
        """The API tells of the object as it is from now on."""
        self.now = replace(self.now, **fields)
        self.objects.observe(self.now.key, self.now)


# --- conditions -----------------------------------------------------------------------------------------

VERDICTS = {
    "accepted": (Verdict(KEY, True, ""), "", ("True", "Accepted", "in force")),
    "accepted, and hardly meant": (
        Verdict(KEY, True, "no such pool", doubtful=True), "", ("True", "Doubtful", "no such pool")
    ),
    "accepted, and in the way of a node": (Verdict(KEY, True, ""), "a node", ("True", "Doubtful", "a node")),
    "both": (Verdict(KEY, True, "odd", doubtful=True), "a node", ("True", "Doubtful", "odd; a node")),
    "refused": (Verdict(KEY, False, "no address"), "", ("False", "Invalid", "no address")),
    "refused, and in the way": (Verdict(KEY, False, "no"), "a node", ("False", "Invalid", "no; a node")),
    "as long as fits": (Verdict(KEY, False, "x" * 1024), "", ("False", "Invalid", "x" * 1024)),
    "longer": (Verdict(KEY, False, "x" * 1025), "", ("False", "Invalid", "x" * 1023 + "…")),
}  # fmt: skip


@pytest.mark.parametrize("story", VERDICTS)
def test_an_object_is_told_its_verdict(story: str) -> None:
    verdict, doubt, expected = VERDICTS[story]
    stage = Stage()
    stage.verdicts, stage.doubts = [verdict], {"lan": doubt} if doubt else {}
    (condition,) = stage.told().conditions
    assert condition.type == "Accepted"
    assert (condition.status, condition.reason, condition.message) == expected
    assert condition.generation == 3, "it says which version was judged"


def test_what_is_doubtful_about_a_pool_is_not_told_to_others_of_its_name() -> None:
    stage = Stage(written("L2Advertisement/lan"))
    stage.doubts = {"lan": "a node"}
    assert stage.told() == ObjectStatus((Condition("Accepted", "True", "Accepted", "in force", 3),))


@pytest.mark.parametrize(
    ("story", "lan", "holders", "expected"),
    [
        ("open", LAN, "a", None),
        ("disabled", replace(LAN, disabled=True), "a", ("True", "Disabled", "default/a")),
        ("deleted", replace(LAN, deleted=True), "a", ("True", "Deleted", "default/a")),
        ("both", replace(LAN, deleted=True, disabled=True), "a", ("True", "Deleted", "default/a")),
        (
            "five are named",
            replace(LAN, deleted=True),
            "edcba",
            ("True", "Deleted", ", ".join(f"default/{x}" for x in "abcde")),
        ),
        (
            "more are counted",
            replace(LAN, deleted=True),
            "gfedcba",
            ("True", "Deleted", ", ".join(f"default/{x}" for x in "abcde") + " and 2 more"),
        ),
        ("all have left", replace(LAN, disabled=True), "", ("False", "Disabled", "")),
    ],
)  # fmt: skip
def test_a_closed_pool_says_who_is_still_there(
    story: str, lan: Pool, holders: str, expected: tuple[str, str, str] | None
) -> None:
    stage = Stage(lan=lan)
    stage.holders = {f"default/{name}": f"192.0.2.{n}" for n, name in enumerate(holders, 1)}
    accepted, *draining = stage.told().conditions
    assert accepted.type == "Accepted"
    if expected is None:
        assert draining == []
        return
    status, reason, who = expected
    message = "no new IPs are given; " + (f"still in use by {who}" if who else "nobody has any")
    assert draining == [Condition("Draining", status, reason, message, 3)]  # type: ignore[arg-type]


# --- how far a pool is used up --------------------------------------------------------------------------

USED: dict[str, Result] = {
    "default/a": Allocation(ips("192.0.2.1", "2001:db8::1"), ("lan", "lan")),
    "default/b": Allocation(ips("192.0.2.2"), ("lan",)),
    "default/c": Refusal(Reason.POOL_EXHAUSTED, "full", ("lan",)),
}
DUAL = replace(LAN, ranges=(span("192.0.2.1-192.0.2.9"), span("2001:db8::1-2001:db8::4")))
COUNTED = PoolStatus(2, 1, 7, 3, 9, 4, 1)
HUGE = replace(LAN, ranges=(span("2001:db8::-2001:db8::8000:0:0:0"),))  # MOST + 2 addresses
SPANS = (span("192.0.2.1-192.0.2.2"), span("2001:db8::1"))


@pytest.mark.parametrize(
    ("story", "lan", "expected"),
    [
        ("counts by family, and who waits", DUAL, COUNTED),
        ("disabled: nothing is available", replace(DUAL, disabled=True), PoolStatus(2, 1, 0, 0, 9, 4, 1)),
        ("deleted: nor then", replace(DUAL, deleted=True), PoolStatus(2, 1, 0, 0, 9, 4, 1)),
        ("with a cooldown, what is in use", replace(DUAL, cooldown_s=1), replace(COUNTED, in_use=SPANS)),
        ("no larger than a status can say", HUGE, PoolStatus(0, 1, 0, MOST, 0, MOST, 1)),
    ],
)
def test_a_pool_says_how_far_it_is_used_up(story: str, lan: Pool, expected: PoolStatus) -> None:
    assert pool_status(lan, usage(USED, [lan])) == expected


def test_a_released_ip_is_shown_unless_somebody_still_has_it() -> None:
    stage = Stage(lan=replace(LAN, cooldown_s=60))
    stage.cooling = {
        (4, int(ip("192.0.2.9"))): Cooling("default/was", "lan", 9.0),
        (4, int(ip("192.0.2.2"))): Cooling("default/one", "lan", 7.0),
        (4, int(ip("192.0.2.1"))): Cooling("default/sharer", "lan", 8.0),
        (4, int(ip("198.51.100.1"))): Cooling("default/x", "other", 8.0),
    }
    stage.holders = {"default/b": "192.0.2.1"}
    status = stage.told().pool
    assert status is not None
    assert status.in_use == (span("192.0.2.1"),)
    assert status.released == (
        Released(ip("192.0.2.2"), "default/one", 7.0), Released(ip("192.0.2.9"), "default/was", 9.0)
    )  # fmt: skip


# --- once -----------------------------------------------------------------------------------------------


def test_nothing_is_reported_twice_and_what_somebody_edits_is() -> None:
    stage = Stage()
    status = stage.told()
    assert status.pool == EMPTY
    assert stage.due() == [], "under way"
    stage.echo(version="older")
    assert stage.due() == [], "told of it as it was before"
    stage.echo(status=status)
    assert stage.due() == [], "done"
    stage.echo(status=replace(status, pool=replace(EMPTY, assigned_v4=5)))
    assert stage.told() == status


def test_a_status_that_the_server_prunes_is_no_reason_to_write_again_and_again() -> None:
    stage = Stage()
    status = stage.told()
    for version in "78":
        stage.echo(version=version, status=replace(status, pool=replace(EMPTY, size_v4=0)))
        assert stage.due() == []
    stage.holders = {"default/a": "192.0.2.1"}
    assert stage.told().pool == replace(EMPTY, assigned_v4=1, available_v4=8), "but news are"


def test_a_restart_over_what_was_reported_reports_nothing() -> None:
    before = Stage(lan=replace(LAN, cooldown_s=60, disabled=True))
    before.holders = {"default/a": "192.0.2.1"}
    after = Stage(replace(before.now, status=before.told(), finalizers=(FINALIZER,)), before.pools[0])
    after.holders = before.holders
    assert after.due() == []


def test_a_report_that_failed_is_made_again() -> None:
    stage = Stage()
    stage.holders = {"default/a": "192.0.2.1"}
    protect, report = stage.due()
    stage.objects.failed(report)
    assert stage.due() == [report]
    stage.objects.failed(protect)
    assert stage.due() == [protect]


def test_an_object_made_again_under_its_name_is_told_anew() -> None:
    stage = Stage()
    stage.holders = {"default/a": "192.0.2.1"}
    effects = stage.due()
    stage.objects.observe(KEY, None)
    assert (stage.due(), stage.objects.get(KEY)) == ([], None)
    stage.echo()
    assert stage.due() == effects


# --- MetalLB's own objects ------------------------------------------------------------------------------


def test_metallbs_pools_get_its_four_counts_and_no_finalizer() -> None:
    stage = Stage(written(group="metallb.io/v1beta1"), replace(LAN, cooldown_s=60, disabled=True))
    stage.holders = {"default/a": "192.0.2.1"}
    (report,) = stage.due()
    assert report == Report(stage.now, ObjectStatus(pool=PoolStatus(assigned_v4=1)))
    stage.echo(status=ObjectStatus(pool=PoolStatus(assigned_v4=1)))
    assert stage.due() == []
    peer = Stage(written("BGPPeer/router", group="metallb.io/v1beta2"))
    assert peer.due() == [], "its other objects have no status at all"


# --- the finalizer --------------------------------------------------------------------------------------

OTHER = "example.com/other"


@pytest.mark.parametrize(
    ("story", "in_use", "deleted", "finalizers", "wanted"),
    [
        ("the first IP is given", True, False, (), True),
        ("beside somebody else's", True, False, (OTHER,), True),
        ("it has it already", True, False, (OTHER, FINALIZER), None),
        ("nobody has any", False, False, (OTHER,), None),
        ("the last one left", False, False, (FINALIZER,), False),
        ("deleted while in use", True, True, (FINALIZER,), None),
        ("deleted, and the last one left", False, True, (FINALIZER, OTHER), False),
        ("too late: what is deleted takes no finalizer", True, True, (OTHER,), None),
    ],
)
def test_a_pool_in_use_is_protected(
    story: str, in_use: bool, deleted: bool, finalizers: tuple[str, ...], wanted: bool | None
) -> None:
    stage = Stage(written(deleted=deleted, finalizers=finalizers), replace(LAN, deleted=deleted))
    stage.holders = {"default/a": "192.0.2.1"} if in_use else NOBODY
    protects = [effect for effect in stage.due() if isinstance(effect, Protect)]
    assert protects == ([] if wanted is None else [Protect(stage.now, wanted)])
    assert not [effect for effect in stage.due() if isinstance(effect, Protect)], "once"


@pytest.mark.parametrize(
    ("story", "key", "deleted", "wanted"),
    [
        ("it may be mended", KEY, False, None),
        ("it is deleted: nobody can have an IP of it", KEY, True, False),
        ("what is no pool has none of ours", "BGPPeer/lan", True, None),
    ],
)
def test_a_pool_that_is_refused_and_was_never_right(
    story: str, key: str, deleted: bool, wanted: bool | None
) -> None:
    stage = Stage(written(key, deleted=deleted, finalizers=(FINALIZER,)), None)
    stage.verdicts = [Verdict(key, False, "no address")]
    protects = [effect for effect in stage.due() if isinstance(effect, Protect)]
    assert protects == ([] if wanted is None else [Protect(stage.now, wanted)])


def test_who_takes_the_finalizer_away_is_corrected_and_who_comes_and_goes_is_followed() -> None:
    stage = Stage()
    stage.told()
    stage.holders = {"default/a": "192.0.2.1"}
    assert stage.due()[0] == Protect(stage.now, True)
    stage.holders = NOBODY
    assert stage.due()[0] == Protect(stage.now, False), "though the first is under way"
    stage.holders = {"default/a": "192.0.2.1"}
    assert stage.due()[0] == Protect(stage.now, True)
    stage.echo(version="older")
    assert stage.due() == []
    stage.echo(finalizers=(FINALIZER,))
    assert stage.due() == []
    stage.echo(finalizers=())
    assert stage.due() == [Protect(stage.now, True)]


# --- the summary ----------------------------------------------------------------------------------------


def test_the_effective_configuration_counts_verdicts_and_says_what_is_wrong() -> None:
    key = "EffectiveConfiguration/lbspeaker"
    verdicts = [Verdict(KEY, True, "odd", doubtful=True), Verdict("BGPPeer/a", False, "x" * 2000)]
    config = ConfigSet(verdicts=tuple(verdicts))
    objects = Objects()
    assert list(objects.tally(key, config)) == [], "it is not there yet"
    objects.observe(key, written(key))
    (report,) = objects.tally(key, config)
    assert report.status == ObjectStatus(tally=Tally(1, 1, (("BGPPeer/a", "x" * 255 + "…"),)))
    assert list(objects.tally(key, config)) == []
