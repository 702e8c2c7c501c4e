"""The composed controller: what it writes, and when it writes nothing."""

from dataclasses import replace
from typing import Any

import pytest

from lbspeaker.core.controller import (
    EFFECTIVE,
    GATE,
    Assign,
    Controller,
    Effect,
    Mention,
    Publish,
    Tell,
    Tidy,
    condition_of,
)
from lbspeaker.core.objects import Protect, Report
from lbspeaker.model import (
    ALLOCATED,
    Allocation,
    Change,
    Condition,
    Config,
    ConfigSet,
    Kind,
    Node,
    ObjectStatus,
    Pool,
    PoolStatus,
    Reason,
    Released,
    Service,
    Synced,
    Verdict,
    Written,
)
from tests.build import ip, ips, node, pool, service, span

LAN = pool("lan", "192.0.2.1-192.0.2.2")
NOW = 1_790_000_000.0


def config(*pools: Pool) -> Change:
    return Change(Kind.CONFIG, "", ConfigSet(Config(pools)))


def seen(value: Service) -> Change:
    return Change(Kind.SERVICE, value.key, value)


def gone(key: str) -> Change:
    return Change(Kind.SERVICE, f"default/{key}", None)


def started(*services: Service, pools: tuple[Pool, ...] = (LAN,)) -> tuple[Controller, list[Effect]]:
    controller = Controller()
    for change in (config(*pools), *map(seen, services), *map(Synced, GATE)):
        controller.observe(change)
    effects = [effect for effect in controller.advance(NOW) if not isinstance(effect, Publish)]
    return controller, effects


def after(controller: Controller, *changes: Change | Synced) -> list[Effect]:
    for change in changes:
        controller.observe(change)
    return controller.advance(NOW)


def holding(value: Service, *addresses: str, pool_name: str = "lan") -> Service:
    return replace(value, held=ips(*addresses), held_pool=pool_name, given=ips(*addresses))


def test_it_writes_nothing_before_it_has_seen_everything() -> None:
    controller = Controller()
    for change in (config(LAN), seen(service("a"))):
        controller.observe(change)
    for kind in sorted(GATE):
        assert controller.advance(NOW) == []
        controller.observe(Synced(kind))
    publish, assign = controller.advance(NOW)
    assert isinstance(publish, Publish)
    assert assign == Assign(service("a"), Allocation(ips("192.0.2.1"), ("lan",)))


def test_a_write_under_way_is_not_written_again_and_its_ip_is_not_given_twice() -> None:
    controller, effects = started(service("a"))
    assert len(effects) == 1
    (assign,) = after(controller, seen(service("b")))
    assert assign == Assign(service("b"), Allocation(ips("192.0.2.2"), ("lan",)))


def test_nothing_is_left_to_do_once_it_is_seen_to_be_written() -> None:
    controller, _ = started(service("a"))
    assert after(controller, seen(holding(service("a"), "192.0.2.1"))) == []
    assert after(controller, config(LAN), seen(holding(service("a"), "192.0.2.1"))) == []


def test_a_restart_over_allocated_services_writes_nothing() -> None:
    services = [holding(service("a"), "192.0.2.2"), holding(service("b"), "192.0.2.1")]
    assert started(*services)[1] == []


def test_the_echo_of_a_write_costs_no_pass() -> None:
    controller, _ = started(service("a"), service("b"))
    passes = []
    decide = controller._standing.update
    controller._standing.update = lambda *args: passes.append(args) or decide(*args)  # type: ignore[method-assign,func-returns-value]
    written = replace(holding(service("a"), "192.0.2.1"), resource_version="7")
    assert after(controller, seen(written), seen(replace(written, resource_version="8"))) == []
    assert not passes
    after(controller, seen(replace(written, ports=())))
    assert passes, "but what its user changes does"


def test_an_older_version_of_the_service_does_not_make_it_write_again() -> None:
    controller, _ = started(service("a"))
    assert after(controller, seen(service("a", labels={"edited": "meanwhile"}))) == []


def test_after_a_write_whatever_is_told_next_is_the_truth() -> None:
    controller, (assign,) = started(service("a", resource_version="1"))
    assert isinstance(assign, Assign)
    controller.written(assign)
    assert controller.advance(NOW) == []
    cleared = service("a", resource_version="3")  # somebody took it away again, and only that was told
    assert after(controller, seen(cleared)) == [Assign(cleared, Allocation(ips("192.0.2.1"), ("lan",)))]


def test_what_was_told_before_the_answer_to_the_write_counts_too() -> None:
    controller, (assign,) = started(service("a", resource_version="1"))
    assert isinstance(assign, Assign)
    cleared = service("a", resource_version="3")
    assert after(controller, seen(cleared)) == []
    controller.written(assign)
    assert controller.advance(NOW) == [Assign(cleared, Allocation(ips("192.0.2.1"), ("lan",)))]


def test_a_failed_write_is_decided_anew() -> None:
    controller, (assign,) = started(service("a"))
    assert isinstance(assign, Assign)
    controller.failed(assign)
    assert controller.advance(NOW) == [assign]


def test_the_late_result_of_an_older_write_says_nothing_about_a_newer_one() -> None:
    controller, (first,) = started(service("a", resource_version="5"))
    assert isinstance(first, Assign)
    written = holding(service("a", resource_version="6"), "192.0.2.1")
    assert after(controller, seen(written)) == []
    wish = replace(written, resource_version="7", requested_ips=ips("192.0.2.2"))
    (second,) = after(controller, seen(wish))
    assert isinstance(second, Assign)
    for result in (controller.written, controller.failed):
        result(first)
        older = service("older", created="0", requested_ips="192.0.2.2")
        assert not [e for e in after(controller, seen(older)) if isinstance(e, Assign)], "it is given already"
        controller.observe(gone("older"))


def test_a_service_deleted_and_made_again_under_a_write_gets_its_ip() -> None:
    controller, _ = started(service("a", uid="1"))
    (assign,) = after(controller, seen(service("a", uid="2")))
    assert assign == Assign(service("a", uid="2"), Allocation(ips("192.0.2.1"), ("lan",)))


def test_who_edits_the_status_is_corrected() -> None:
    controller, _ = started(holding(service("a"), "192.0.2.1"))
    assert after(controller, seen(service("a"))) == [
        Assign(service("a"), Allocation(ips("192.0.2.1"), ("lan",)))
    ]


def test_a_refusal_is_told_once_and_again_when_it_changes() -> None:
    services = [holding(service("a"), "192.0.2.1"), holding(service("b"), "192.0.2.2")]
    controller, effects = started(*services, service("c"))
    (tell,) = effects
    assert isinstance(tell, Tell)
    assert tell.refusal.reason is Reason.POOL_EXHAUSTED
    assert after(controller, seen(service("c", labels={"edited": "x"}))) == []
    tidy, assign = after(controller, gone("a"))
    assert isinstance(tidy, Tidy)
    assert assign == Assign(service("c", labels={"edited": "x"}), Allocation(ips("192.0.2.1"), ("lan",)))


def test_a_released_ip_goes_to_the_one_that_waits_longest() -> None:
    held = [holding(service("a"), "192.0.2.1"), holding(service("b"), "192.0.2.2")]
    waiting = [service("young", created="2026-03"), service("old", created="2026-02")]
    controller, _ = started(*held, *waiting)
    tidy, assign = after(controller, gone("a"))
    assert isinstance(tidy, Tidy)
    assert isinstance(assign, Assign)
    assert assign.service.key == "default/old"


def test_an_ip_that_no_pool_has_any_more_is_replaced_or_taken_back() -> None:
    controller, effects = started(holding(service("a"), "203.0.113.7", pool_name="old"))
    assert effects == [Assign(controller.service("default/a"), Allocation(ips("192.0.2.1"), ("lan",)))]
    full = [holding(service("a"), "192.0.2.1"), holding(service("b"), "192.0.2.2")]
    lost = holding(service("c"), "203.0.113.7", pool_name="old")
    effects = started(*full, lost)[1]
    assert Assign(lost, None) in effects


def test_without_any_pool_nobody_loses_what_he_holds() -> None:
    _, effects = started(holding(service("a"), "192.0.2.1"), pools=())
    (tell,) = effects
    assert isinstance(tell, Tell)


def test_while_a_pool_is_wrong_nobody_loses_or_changes_an_ip_that_may_be_of_it() -> None:
    lost = holding(service("a"), "203.0.113.7", pool_name="wrong")
    refused = Verdict("IPAddressPool/wrong", False, "spec.addresses[0]: ends before it starts")
    controller = Controller()
    bad = Change(Kind.CONFIG, "", ConfigSet(Config((LAN,)), verdicts=(refused,)))
    effects = after(controller, bad, seen(lost), seen(service("b")), *map(Synced, GATE))
    (assign,) = [e for e in effects if isinstance(e, Assign)]
    assert assign == Assign(service("b"), Allocation(ips("192.0.2.2"), ("lan",)))
    (assign,) = [e for e in after(controller, config(LAN)) if isinstance(e, Assign)]
    assert assign.service.key == "default/a", "once it is mended, or gone, the pools decide"


def test_services_of_other_classes_and_types_are_left_alone() -> None:
    services = [service("a", load_balancer_class="other"), service("b", load_balancer=False)]
    assert started(*services)[1] == []


def test_what_is_accepted_is_published_once() -> None:
    controller, _ = started()
    assert after(controller, config(LAN)) == []
    (publish,) = after(controller, config(pool("wan", "198.51.100.1")))
    assert isinstance(publish, Publish)


# --- services that are not ours, or no longer -----------------------------------------------------------

FOREIGN = service("a", load_balancer_class="other")


def test_a_service_that_no_controller_serves_is_told_why_after_a_while_and_once() -> None:
    controller, effects = started(FOREIGN)
    assert effects == []
    assert controller.next_wakeup() == NOW + 30
    assert controller.advance(NOW + 29.9) == []
    edited = replace(FOREIGN, labels={"edited": "meanwhile"})
    controller.observe(seen(edited))
    assert controller.advance(NOW + 29.9) == [], "and does not begin to wait anew"
    (mention,) = controller.advance(NOW + 30)
    assert isinstance(mention, Mention)
    assert mention.service == edited
    assert mention.refusal.reason is Reason.CLASS_MISMATCH
    assert "has loadBalancerClass other" in mention.refusal.message
    assert "without a loadBalancerClass" in mention.refusal.message
    assert controller.next_wakeup() is None
    controller.observe(seen(FOREIGN))
    assert controller.advance(NOW + 100) == []


@pytest.mark.parametrize(
    ("story", "now"),
    [
        ("its own controller gave it an IP", holding(FOREIGN, "203.0.113.1")),
        ("it is no LoadBalancer any more", replace(FOREIGN, load_balancer=False)),
        ("it is gone", None),
    ],
)
def test_who_does_not_wait_for_a_controller_is_told_nothing(story: str, now: Service | None) -> None:
    controller, _ = started(FOREIGN)
    controller.observe(Change(Kind.SERVICE, FOREIGN.key, now))
    assert controller.next_wakeup() is None
    assert controller.advance(NOW + 60) == []


def test_where_a_class_is_served_who_has_none_is_told_so() -> None:
    controller = Controller("mine")
    for one in ("mine", None):
        controller.observe(seen(service(f"a-{one}", load_balancer_class=one)))
    effects = after(controller, config(LAN), *map(Synced, GATE)) + controller.advance(NOW + 30)
    assert [e.service.name for e in effects if isinstance(e, Assign)] == ["a-mine"]
    (mention,) = [e for e in effects if isinstance(e, Mention)]
    assert mention.service.name == "a-None"
    assert "has no class" in mention.refusal.message
    assert "of loadBalancerClass mine" in mention.refusal.message


OURS = Condition(ALLOCATED, "False", "PoolExhausted", "full")
HELD = holding(service("a"), "192.0.2.1")
REFUSED = service("a", condition=OURS)
PLAIN: dict[str, Any] = {"load_balancer": False, "held": ()}


@pytest.mark.parametrize(
    ("story", "before", "now", "tidied"),
    [
        ("deleted, it had an IP", HELD, None, HELD),
        ("deleted, it was refused", REFUSED, None, REFUSED),
        ("deleted, it had nothing of ours", service("a", requested_pool="x"), None, None),
        ("it became a ClusterIP", HELD, replace(HELD, **PLAIN), replace(HELD, **PLAIN)),
        ("also one that was refused", REFUSED, replace(REFUSED, **PLAIN), replace(REFUSED, **PLAIN)),
        ("it was tidied by its user", HELD, service("a", **PLAIN), None),
        ("it became so while nobody looked", None, replace(HELD, **PLAIN), replace(HELD, **PLAIN)),
        ("it is another controller's now", HELD, replace(HELD, load_balancer_class="other"), None),
        ("another controller's is gone", replace(HELD, load_balancer_class="other"), None, None),
    ],
)
def test_nothing_of_ours_stays_at_what_is_no_longer_ours(
    story: str, before: Service | None, now: Service | None, tidied: Service | None
) -> None:
    controller, _ = started(*([before] if before else []))
    effects = after(controller, Change(Kind.SERVICE, "default/a", now))
    assert effects == ([Tidy(tidied)] if tidied else [])
    assert controller.advance(NOW) == []


# --- the effective configuration ------------------------------------------------------------------------

DOCUMENTS = ({"kind": "IPAddressPool"}, {"kind": "BGPPeer"})


def effective(document: dict[str, object] | None) -> Change:
    return Change(Kind.OBJECT, EFFECTIVE, None if document is None else Written(EFFECTIVE, document))


@pytest.mark.parametrize(
    ("story", "document", "anew"),
    [
        ("as it was published", {"spec": {"documents": [*DOCUMENTS]}}, False),
        ("one was taken out", {"spec": {"documents": [*DOCUMENTS[:1]]}}, True),
        ("their order was changed", {"spec": {"documents": [*DOCUMENTS[::-1]]}}, True),
        ("all were taken out", {"spec": {}}, True),
        ("and put to nothing", {"spec": {"documents": None}}, True),
        ("nothing is left", {}, True),
        ("it is gone", None, True),
    ],
)
def test_who_edits_what_was_published_is_corrected(
    story: str, document: dict[str, object] | None, anew: bool
) -> None:
    controller, _ = started()
    published = ConfigSet(Config((LAN,)), DOCUMENTS)
    after(controller, Change(Kind.CONFIG, "", published), effective({"spec": {"documents": [*DOCUMENTS]}}))
    effects = [e for e in after(controller, effective(document)) if isinstance(e, Publish)]
    assert effects == ([Publish(published)] if anew else [])
    assert controller.advance(NOW) == [], "once"


# --- reports --------------------------------------------------------------------------------------------

LAN_OBJECT = Written("IPAddressPool/lan", {"apiVersion": "lbspeaker.io/v1beta1"}, 1)
ACCEPTED = ConfigSet(Config((LAN,)), verdicts=(Verdict(LAN_OBJECT.key, True, ""),))


def reporting(*services: Service) -> tuple[Controller, list[Effect]]:
    """A controller of a pool that is an object, and what it wrote at first."""
    controller = Controller()
    objects = Change(Kind.OBJECT, LAN_OBJECT.key, LAN_OBJECT)
    return controller, after(
        controller, objects, Change(Kind.CONFIG, "", ACCEPTED), *map(seen, services), *map(Synced, GATE)
    )


def counts(effects: list[Effect]) -> list[int]:
    """How many IPs are said to be in use."""
    return [e.status.pool.assigned_v4 for e in effects if isinstance(e, Report) and e.status.pool]


def test_what_changes_with_every_service_is_told_once_a_second_and_verdicts_at_once() -> None:
    controller, effects = reporting()
    assert counts(effects) == [0]
    assert controller.next_wakeup() is None
    assert counts(after(controller, seen(service("a")))) == []
    assert controller.next_wakeup() == NOW + 1
    controller.observe(seen(service("b")))
    assert counts(controller.advance(NOW + 0.9)) == []
    assert counts(controller.advance(NOW + 1)) == [2]
    assert controller.next_wakeup() is None
    doubtful = replace(ACCEPTED, verdicts=(Verdict(LAN_OBJECT.key, True, "odd", doubtful=True),))
    controller.observe(Change(Kind.CONFIG, "", doubtful))
    assert counts(controller.advance(NOW + 1.1)) == [2]
    controller.observe(gone("a"))
    assert counts(controller.advance(NOW - 3600)) == [1], "a clock that is set back silences nobody"


def test_what_could_not_be_told_is_told_again() -> None:
    controller, effects = reporting(HELD, holding(service("b"), "192.0.2.2"), service("c"))
    (tell,) = [e for e in effects if isinstance(e, Tell)]
    controller.failed(tell)
    assert [e for e in controller.advance(NOW) if isinstance(e, Tell)] == [tell]
    for one in [e for e in effects if isinstance(e, Report | Protect)]:
        controller.failed(one)
        wakeup = controller.next_wakeup()
        assert wakeup is not None
        assert controller.advance(wakeup) == [one]


# --- refusals -------------------------------------------------------------------------------------------


def test_a_refusal_that_its_service_knows_already_is_not_told_again() -> None:
    full = [HELD, holding(service("b"), "192.0.2.2")]
    (tell,) = started(*full, service("c"))[1]
    assert isinstance(tell, Tell)
    knowing = service("c", condition=condition_of(tell.refusal))
    assert started(*full, knowing)[1] == [], "after a restart, say"
    outdated = service("c", condition=OURS)
    assert started(*full, outdated)[1] == [Tell(outdated, tell.refusal)]


def test_the_condition_goes_when_the_ip_comes() -> None:
    refused = service("a", condition=OURS)
    controller, effects = started(refused)
    given = Allocation(ips("192.0.2.1"), ("lan",))
    assert effects == [Assign(refused, given)]
    late = holding(refused, "192.0.2.1")  # the IP alone was written
    assert started(late)[1] == [Assign(late, given)]
    assert started(holding(service("a"), "192.0.2.1"))[1] == []
    assert after(controller, seen(holding(service("a"), "192.0.2.1"))) == []


def test_what_a_service_lacks_beside_its_ip_is_a_condition_too() -> None:
    both = service("a", families=(4, 6), ip_family_policy="PreferDualStack")
    assign, tell = started(both)[1]
    assert isinstance(assign, Assign)
    assert isinstance(tell, Tell)
    condition = condition_of(assign.allocation)
    assert condition is not None
    assert (condition.status, condition.reason) == ("True", "NoPoolForFamily")
    assert started(replace(holding(both, "192.0.2.1"), condition=condition))[1] == []


# --- time -----------------------------------------------------------------------------------------------

COOL = replace(LAN, ranges=(span("192.0.2.1"),), cooldown_s=60.0)


def test_who_waits_for_a_cooling_ip_gets_it_when_it_has_cooled_and_not_before() -> None:
    controller, _ = started(HELD, service("b"), pools=(COOL,))
    assert controller.next_wakeup() is None
    assert not [e for e in after(controller, gone("a")) if isinstance(e, Assign)]
    assert controller.advance(NOW + 1) == []
    assert controller.next_wakeup() == NOW + 60
    controller.observe(seen(FOREIGN))
    assert controller.advance(NOW + 20) == []
    assert controller.next_wakeup() == NOW + 50, "what is due first"
    assert [type(e) for e in controller.advance(NOW + 59.9)] == [Mention]
    assert controller.next_wakeup() == NOW + 60
    assert controller.advance(NOW + 60) == [Assign(service("b"), Allocation(ips("192.0.2.1"), ("lan",)))]
    assert controller.next_wakeup() is None


@pytest.mark.parametrize(
    ("story", "status", "end"),
    [
        ("it was in use", PoolStatus(in_use=(span("192.0.2.1"),)), NOW + 60),
        ("it was cooling", PoolStatus(released=(Released(ip("192.0.2.1"), "default/x", NOW + 9),)), NOW + 9),
        ("it was cooling, and over", PoolStatus(released=(Released(ip("192.0.2.1"), "x/x", NOW),)), None),
        (
            "of both, what is said of its end",
            PoolStatus(in_use=(span("192.0.2.1"),), released=(Released(ip("192.0.2.1"), "x/x", NOW + 9),)),
            NOW + 9,
        ),
    ],
)
def test_a_new_leader_knows_what_is_cooling(story: str, status: PoolStatus, end: float | None) -> None:
    written = Written("IPAddressPool/lan", {}, status=ObjectStatus(pool=status))
    controller = Controller()
    changes = (
        Change(Kind.OBJECT, written.key, written),
        config(COOL),
        seen(service("b")),
        *map(Synced, GATE),
    )
    effects = after(controller, *changes)
    assert bool([e for e in effects if isinstance(e, Assign)]) == (end is None)
    assert controller.next_wakeup() == end


def test_who_moves_leaves_what_nobody_gets_for_a_while() -> None:
    cool = replace(LAN, cooldown_s=60.0)
    controller, _ = started(HELD, pools=(cool,))
    moved = replace(HELD, requested_ips=ips("192.0.2.2"))
    after(controller, seen(moved))
    (tell,) = after(controller, seen(service("b", requested_ips="192.0.2.1")))
    assert isinstance(tell, Tell)
    assert tell.refusal.message == "192.0.2.1 is requested, but default/a is only about to leave it"
    (tell,) = after(controller, seen(replace(moved, held=ips("192.0.2.2"), given=ips("192.0.2.2"))))
    assert isinstance(tell, Tell)
    assert tell.refusal.reason is Reason.COOLING_DOWN
    assert [type(effect) for effect in controller.advance(NOW + 60)] == [Assign]


def test_what_is_in_use_and_held_does_not_cool_after_a_restart() -> None:
    written = Written(
        "IPAddressPool/lan", {}, status=ObjectStatus(pool=PoolStatus(in_use=(span("192.0.2.1"),)))
    )
    controller = Controller()
    changes = (Change(Kind.OBJECT, written.key, written), config(COOL), seen(HELD), *map(Synced, GATE))
    after(controller, *changes)
    assert controller.next_wakeup() is None


# --- doubts ---------------------------------------------------------------------------------------------


def told_of(value: Node) -> Change:
    return Change(Kind.NODE, value.name, value)


def test_doubts_about_pools_follow_the_nodes() -> None:
    controller, _ = started()
    assert controller.doubts == {}
    after(controller, told_of(node("a", addresses=ips("192.0.2.2"))))
    assert "192.0.2.2, the address of node a" in controller.doubts["lan"]
    after(controller, told_of(node("a", addresses=ips("203.0.113.1"))))
    assert controller.doubts == {}
    after(controller, told_of(node("b", addresses=ips("192.0.2.1"))), config(pool("wan", "198.51.100.1")))
    assert controller.doubts == {}
    after(controller, config(LAN))
    assert controller.doubts.keys() == {"lan"}
    after(controller, Change(Kind.NODE, "b", None))
    assert controller.doubts == {}


def test_doubts_follow_cluster_ips_and_are_not_looked_for_at_each_change() -> None:
    controller, _ = started(service("a", cluster_ips=("192.0.2.1",)))
    before = controller.doubts
    after(controller, seen(service("b", cluster_ips=("10.96.0.1",))))
    assert controller.doubts is before
    after(controller, seen(service("b", cluster_ips=("10.96.0.1", "192.0.2.2"))))
    assert "192.0.2.1, the cluster IP of default/a and 1 more" in controller.doubts["lan"]


# --- pools that are wrong at the moment -----------------------------------------------------------------

WRONG = ConfigSet(Config((LAN,)), verdicts=(Verdict("IPAddressPool/wrong", False, "ends before it starts"),))


@pytest.mark.parametrize(
    ("story", "mended", "given"),
    [
        ("it contains the IP", (LAN, pool("wrong", "203.0.113.7")), None),
        ("it contains another", (LAN, pool("wrong", "203.0.113.8", auto_assign=False)), "203.0.113.7"),
        ("it is gone", (LAN,), "192.0.2.1"),
    ],
)
def test_when_a_pool_is_mended_those_who_may_have_been_of_it_are_looked_at_again(
    story: str, mended: tuple[Pool, ...], given: str | None
) -> None:
    lost = holding(service("a"), "203.0.113.7", pool_name="wrong")
    controller = Controller()
    after(controller, Change(Kind.CONFIG, "", WRONG), seen(lost), *map(Synced, GATE))
    edited = replace(lost, labels={"edited": "meanwhile"})
    assert after(controller, seen(edited)) == []
    effects = [e for e in after(controller, config(*mended)) if isinstance(e, Assign)]
    if given is None or given == "203.0.113.7":
        assert not [e for e in effects if e.allocation and e.allocation.ips != edited.held]
    else:
        assert effects == [Assign(edited, Allocation(ips(given), ("lan",)))]


# --- IPs that change hands ------------------------------------------------------------------------------

ONE = pool("lan", "192.0.2.1")
WAN = pool("wan", "198.51.100.1", auto_assign=False)


def assigns(effects: list[Effect]) -> dict[str, str]:
    return {
        e.service.name: " ".join(map(str, e.allocation.ips)) if e.allocation else "-"
        for e in effects
        if isinstance(e, Assign)
    }


def test_an_ip_is_given_on_only_once_it_is_written_that_it_was_left() -> None:
    holder = holding(service("holder", created="2", resource_version="1"), "192.0.2.1")
    waiting = service("waiting", created="1")
    controller, effects = started(holder, waiting, pools=(ONE, WAN))
    assert assigns(effects) == {}
    moving = replace(holder, resource_version="2", requested_pool="wan")
    effects = after(controller, seen(moving))
    assert assigns(effects) == {"holder": "198.51.100.1"}, "nobody else, though the IP is left"
    (assign,) = [e for e in effects if isinstance(e, Assign)]
    controller.failed(assign)
    assert assigns(controller.advance(NOW)) == {"holder": "198.51.100.1"}, "also not while that fails"
    moved = replace(
        moving, resource_version="3", held=ips("198.51.100.1"), held_pool="wan", given=ips("198.51.100.1")
    )
    assert assigns(after(controller, seen(moved))) == {"waiting": "192.0.2.1"}, (
        "the one who waits, older or not"
    )


def test_the_answer_to_the_write_will_do_before_its_echo() -> None:
    holder = holding(service("holder", resource_version="1"), "192.0.2.1")
    controller, _ = started(holder, service("waiting"), pools=(ONE, WAN))
    effects = after(controller, seen(replace(holder, resource_version="2", requested_pool="wan")))
    (assign,) = [e for e in effects if isinstance(e, Assign)]
    controller.written(assign)
    assert assigns(controller.advance(NOW)) == {"waiting": "192.0.2.1"}


# --- pools that are wrong -------------------------------------------------------------------------------

WRONG = Verdict("IPAddressPool/wrong", False, "ends before it starts")
BAD = Change(Kind.CONFIG, "", ConfigSet(Config((LAN,)), verdicts=(WRONG,)))


def begun(*values: Service) -> tuple[Controller, list[Effect]]:
    controller = Controller()
    return controller, after(controller, BAD, *map(seen, values), *map(Synced, GATE))


def test_who_may_be_of_a_wrong_pool_keeps_its_ip_and_is_told() -> None:
    controller, effects = begun(holding(service("a"), "203.0.113.7", pool_name="wrong"))
    (tell,) = [effect for effect in effects if isinstance(effect, Assign | Tell)]
    assert isinstance(tell, Tell)
    assert tell.refusal.message == (
        "203.0.113.7 is in no pool in force, and wrong is refused: kept until that is mended"
    )
    condition = controller.condition("default/a")
    assert condition is not None
    assert condition.status == "True", "it has an IP"


def test_a_wrong_pool_holds_nobody_up_who_is_not_of_it() -> None:
    other = holding(service("other"), "203.0.113.8", pool_name="gone")
    asks = replace(holding(service("asks"), "203.0.113.9", pool_name="wrong"), requested_ips=ips("192.0.2.2"))
    _, effects = begun(other, asks)
    assert assigns(effects) == {"other": "192.0.2.1", "asks": "192.0.2.2"}


def test_a_wrong_pool_of_which_a_right_version_is_in_force_holds_nobody_up() -> None:
    lost = holding(service("lost"), "203.0.113.8", pool_name="lan")
    config = ConfigSet(
        Config((replace(LAN, on_shrink="Renumber"),)), verdicts=(replace(WRONG, key="IPAddressPool/lan"),)
    )
    controller = Controller()
    effects = after(controller, Change(Kind.CONFIG, "", config), seen(lost), *map(Synced, GATE))
    assert assigns(effects) == {"lost": "192.0.2.1"}


def test_a_note_that_becomes_the_whole_answer_is_told_anew() -> None:
    moved = holding(service("a", families=(4, 6), ip_family_policy="PreferDualStack"), "192.0.2.1")
    controller, effects = started(moved)
    (note,) = [effect for effect in effects if isinstance(effect, Tell)]
    assert note.refusal.reason is Reason.NO_POOL_FOR_FAMILY
    asks = replace(moved, held=(), held_pool=None, requested_pool="nowhere")
    (tell,) = [e for e in after(controller, seen(asks)) if isinstance(e, Tell)]
    assert tell.refusal.reason is Reason.UNKNOWN_POOL


def test_nothing_is_due_before_everything_is_known() -> None:
    controller = Controller()
    controller.observe(Change(Kind.OBJECT, "IPAddressPool/lan", Written("IPAddressPool/lan", {})))
    assert controller.advance(NOW) == []
    assert controller.next_wakeup() is None


def test_who_waits_is_told_how_things_are_after_the_pass_not_in_it() -> None:
    """Who had the IP takes it back in the pass in which an older one is told that it cools down."""
    cool = replace(ONE, cooldown_s=60.0)
    controller, _ = started(holding(service("s", created="2"), "192.0.2.1"), pools=(cool,))
    after(controller, gone("s"))
    asks = service("asks", created="1", requested_ips="192.0.2.1")
    back = service("s", created="3", uid="2")
    effects = after(controller, seen(asks), seen(back))
    assert assigns(effects) == {"s": "192.0.2.1"}
    assert [e.refusal.reason for e in effects if isinstance(e, Tell)][-1] is Reason.IN_USE
