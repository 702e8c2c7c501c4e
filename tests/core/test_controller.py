"""The composed controller: what it writes, and when it writes nothing."""

from dataclasses import replace

from lbspeaker.core.controller import GATE, Assign, Controller, Effect, Publish, Tell, Tidy
from lbspeaker.model import (
    Allocation,
    Change,
    Config,
    ConfigSet,
    Kind,
    Pool,
    Reason,
    Service,
    Synced,
    Verdict,
)
from tests.build import ips, pool, service

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


def after(controller: Controller, *changes: Change) -> list[Effect]:
    for change in changes:
        controller.observe(change)
    return controller.advance(NOW)


def holding(value: Service, *addresses: str, pool_name: str = "lan") -> Service:
    return replace(value, held=ips(*addresses), held_pool=pool_name)


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
    assert effects == [Assign(controller._services["default/a"], Allocation(ips("192.0.2.1"), ("lan",)))]
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
