"""`doctor`: what our own programs say; each fault broken and mended."""

from dataclasses import replace

from lbspeaker.facts import Grade, Lack, Ours, Part
from lbspeaker.model import Node
from tests.core.findings import about, evidence, only, passes

WELL = Ours("one", {"a": 0.5, "b": 1.0}, {"a": (), "b": ()})
NODES = (Node("a"), Node("b"))


def test_no_controller_acts() -> None:
    found = only(evidence(ours=replace(WELL, controller="")), "controller")
    assert (found.grade, found.what) == (Grade.FAIL, "none acts")
    assert passes(evidence(ours=WELL), "controller")


def test_a_node_without_a_speaker_and_one_whose_speaker_is_silent() -> None:
    two = Ours("one", {"b": 30.0, "gone": 900.0}, {})
    lacking, silent = about(evidence(ours=two, nodes=NODES), "speakers")
    assert (lacking.grade, lacking.subject, lacking.what) == (Grade.FAIL, "a", "there is no speaker")
    assert (silent.grade, silent.subject) == (Grade.FAIL, "b")
    assert silent.what == "its speaker has been silent for 30 s"
    assert passes(evidence(ours=WELL, nodes=NODES), "speakers")


def test_what_speakers_complain_of_is_told_once_with_what_to_do() -> None:
    secret = "peer router: Secret lbspeaker-system/tor is missing; create it"
    told = evidence(ours=replace(WELL, problems={"a": (secret,), "b": (secret, "odd")}), nodes=NODES)
    first, second = about(told, "speakers")
    assert (first.grade, first.subject) == (Grade.FAIL, "speaker of a, b")
    assert (first.what, first.remedy) == ("peer router: Secret lbspeaker-system/tor is missing", "create it")
    assert (second.subject, second.what, second.remedy) == (
        "speaker of b",
        "odd",
        "the log of its speaker says more",
    )


def test_the_same_of_many_is_told_once_and_without_nodes_it_cannot_be_told_who_lacks_one() -> None:
    away = {name: (f"peer router: no session for {n} s: no answer",) for n, name in enumerate("ab", 9)}
    told = evidence(ours=replace(WELL, problems=away), nodes=NODES)
    assert [one.subject for one in about(told, "speakers")] == ["speaker of a, b"]
    lack = Lack(Part.NODES, "no permission to list nodes", "kubectl create …")
    blind = replace(evidence(ours=WELL, nodes=()), known=frozenset({Part.SPEAKERS}), lacks=(lack,))
    found = only(blind, "speakers")
    assert (found.grade, found.why) == (Grade.UNKNOWN, "no permission to list nodes")


def test_programs_of_several_versions() -> None:
    upgraded = replace(WELL, release="0.2.0", releases={"a": "0.2.0", "b": "0.1.0"})
    found = only(evidence(ours=upgraded, nodes=NODES), "versions")
    assert (found.grade, found.what) == (Grade.WARN, "programs of several versions run")
    assert found.why == "0.2.0 by the controller and the speaker of a, 0.1.0 by the speaker of b"
    for of in ({"a": "0.2.0", "b": "0.2.0"}, {}):
        assert passes(evidence(ours=replace(WELL, release="0.2.0", releases=of), nodes=NODES), "versions")


def test_documents_say_nothing_of_it() -> None:
    told = evidence()
    assert not about(replace(told, known=told.known - {Part.SPEAKERS}), "speakers")
