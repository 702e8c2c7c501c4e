"""`doctor`: how checks are put, what is not known, and the order of what is found."""

import re
from dataclasses import replace
from pathlib import Path

from lbspeaker.core.checks import named
from lbspeaker.core.findings import CHECKS, examine, looked_at
from lbspeaker.facts import Evidence, Grade, Lack, Part
from tests.core.findings import evidence, here, only, pod, wiring, wrong

ROOT = Path(__file__).parent.parent.parent
OPERATIONS = ROOT / "docs" / "operations.md"


def test_a_cluster_in_which_nothing_is_wrong() -> None:
    assert wrong(evidence(here=here())) == {}
    assert {one.grade for one in examine(evidence(here=here()))} == {Grade.PASS}


def test_the_worst_comes_first() -> None:
    grades = [one.grade for one in examine(evidence(wiring(sticky=True), pods=()))]
    assert grades[:2] == [Grade.FAIL, Grade.WARN]
    assert grades == sorted(grades, key=list(Grade).index)


def test_what_may_not_be_read_is_unknown_and_the_rest_goes_on() -> None:
    lack = Lack(Part.PODS, "no permission to list pods", "kubectl create clusterrole …")
    told = evidence(wiring(sticky=True), pods=())
    told = replace(told, known=told.known - {Part.PODS}, lacks=(lack,))
    unknown = only(told, "selector")
    assert (unknown.grade, unknown.subject, unknown.why) == (Grade.UNKNOWN, "pods", lack.why)
    assert unknown.remedy == lack.remedy
    assert wrong(told) == {"affinity": Grade.WARN}
    assert looked_at(examine(told))


def test_a_check_that_one_of_two_parts_is_enough_for() -> None:
    lack = Lack(Part.PROGRAMS, "no permission", "ask")
    told = evidence()
    without = replace(told, known=told.known - {Part.PROGRAMS}, lacks=(lack,))
    assert only(without, "rivals").grade is Grade.PASS
    neither = replace(without, known=without.known - {Part.PODS})
    assert only(neither, "rivals").grade is Grade.UNKNOWN


def test_nothing_is_known() -> None:
    found = examine(Evidence(lacks=tuple(Lack(part, "away", "wait") for part in Part)))
    assert found and not looked_at(found)


def test_a_node_that_nobody_asked_for_is_not_missed() -> None:
    assert not [one for one in examine(evidence()) if one.code == "rp-filter"]


def test_a_node_is_missed_only_where_it_matters() -> None:
    told = replace(evidence(), lacks=(Lack(Part.HERE, "this is a laptop", "run it on a node"),))
    unknown = {one.code for one in examine(told) if one.grade is Grade.UNKNOWN}
    assert "rp-filter" in unknown and "link" in unknown
    assert not unknown & {"ipv6", "bgp-port", "bfd-port", "restart-with-bfd"}


def test_every_problem_says_why_and_what_to_do() -> None:
    broken = evidence(wiring(sticky=True, external_ips=("192.0.2.9",)), pods=(), nodes=())
    for one in examine(replace(broken, here=here(settings={"net.ipv4.ip_forward": "0"}))):
        if one.grade in (Grade.FAIL, Grade.WARN):
            assert one.why and one.remedy, one


def test_only_the_services_that_are_asked_for() -> None:
    told = evidence(wiring("shop/web", sticky=True), wiring("shop/api", sticky=True), pods=(pod(),))
    found = examine(replace(told, only=frozenset({"shop/api"})))
    assert [one.subject for one in found if one.code == "affinity"] == ["shop/api"]


def test_who_a_check_is_about() -> None:
    told = evidence(wiring("shop/web"), wiring("shop/api"), here=here())
    asked = replace(told, only=frozenset({"shop/web", "shop/api"}))
    assert only(told, "affinity").subject == "2 Services"
    assert only(asked, "affinity").subject == "shop/api, shop/web"
    assert only(told, "rp-filter").subject == "a"
    assert only(told, "advertised").subject == "configuration"
    assert only(told, "rivals").subject == "cluster"


def test_names_are_listed_up_to_a_number() -> None:
    assert named("abcd") == "a, b, c, d"
    assert named("abcde") == "a, b, c, d and 1 more"


def test_codes_are_unique_and_all_of_them_are_in_the_manual() -> None:
    codes = [check.code for check in CHECKS]
    assert len(codes) == len(set(codes))
    section = OPERATIONS.read_text().partition("\n## Doctor\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([a-z0-9-]+)` \|", section, re.MULTILINE) == codes
    assert f"[{len(codes)} checks]" in (ROOT / "README.md").read_text()
