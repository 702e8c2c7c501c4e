"""What LinkPolicies mean, alone and beside each other."""

import pytest
import yaml

from lbspeaker.config import linkpolicies
from lbspeaker.config.crds import crds
from lbspeaker.config.documents import from_object, read
from lbspeaker.config.kinds import AUTHORED, KINDS, OURS
from lbspeaker.config.migration import migrate
from lbspeaker.config.parse import parse
from lbspeaker.core.guard import PROFILES
from lbspeaker.errors import Problem
from lbspeaker.model import Config, LinkPolicy, Requirement, Selector


def policy(spec: str, name: str = "a", version: str = OURS) -> str:
    return f"{{apiVersion: {version}, kind: LinkPolicy, metadata: {{name: {name}}}, spec: {{{spec}}}}}\n---\n"


def parsed(text: str) -> tuple[Config, list[Problem]]:
    documents, broken = read(text, "f")
    assert broken == []
    return parse(documents)


def said(problems: list[Problem]) -> list[str]:
    return [
        f"{'warning ' * (one.severity == 'warning')}{one.path}: {one.what} -> {one.hint}" for one in problems
    ]


RACK = Selector((Requirement("rack", "In", frozenset({"1"})),))


def test_every_field_is_read() -> None:
    config, problems = parsed(
        policy(
            "nodeSelectors: [{matchLabels: {rack: '1'}}], interfaces: [eth0, eth1], profile: fast,"
            " rate: 200, burst: 40, answerRate: 5000, answerBurst: 500, segmentRate: 400, segmentBurst: 80,"
            " group: tor-1, refreshSeconds: 300, refresh: IP, dad: rfc, onConflict: Yield, dryRun: true"
        )
    )
    assert problems == []
    assert config.link_policies == (
        LinkPolicy(
            name="a",
            node_selectors=(RACK,),
            interfaces=frozenset({"eth0", "eth1"}),
            profile="fast",
            rate=200,
            burst=40,
            answer_rate=5000,
            answer_burst=500,
            segment_rate=400,
            segment_burst=80,
            group="tor-1",
            refresh_s=300,
            refresh="IP",
            dad="rfc",
            on_conflict="Yield",
            dry_run=True,
        ),
    )


@pytest.mark.parametrize("spec", ["", "rate: null, group: ''", "interfaces: [], nodeSelectors: []"])
def test_one_that_says_nothing_changes_nothing(spec: str) -> None:
    config, problems = parsed(policy(spec))
    assert problems == []
    assert config.link_policies == (LinkPolicy("a"),)
    assert parse([from_object({"apiVersion": OURS, "kind": "LinkPolicy", "metadata": {"name": "a"}})]) == (
        config,
        [],
    )


def test_what_is_not_given_is_left_to_the_profile() -> None:
    (one,) = parsed(policy("rate: 5, segmentRate: 50"))[0].link_policies
    assert (one.rate, one.burst, one.answer_rate, one.answer_burst) == (5, None, None, None)
    assert (one.segment_rate, one.segment_burst) == (50, None)


LAB_ONLY = "a speaker without a guard is for the lab only; write dryRun: true to send nothing, or fast"
IN_QUOTES = 'write "off", in quotes: without them, YAML reads it as a truth value'
NO_PROFILE = "is not one of standard, strict, fast"
PROBLEMS = [
    ("profile: off", f"spec.profile: the truth value false {NO_PROFILE} -> {LAB_ONLY}"),
    ("profile: 'off'", f"spec.profile: 'off' {NO_PROFILE} -> {LAB_ONLY}"),
    ("profile: Strict", f"spec.profile: 'Strict' {NO_PROFILE} -> did you mean strict?"),
    ("profile: on", f"spec.profile: the truth value true {NO_PROFILE} -> "),
    ("profile: 8", f"spec.profile: the number 8 {NO_PROFILE} -> "),
    ("dad: off", f"spec.dad: the truth value false is not one of off, fast, rfc -> {IN_QUOTES}"),
    ("dad: 'off'", ""),
    ("dad: RFC", "spec.dad: 'RFC' is not one of off, fast, rfc -> did you mean rfc?"),
    ("dad: slow", "spec.dad: 'slow' is not one of off, fast, rfc -> "),
    ("refresh: link", "spec.refresh: 'link' is not one of Link, IP -> did you mean Link?"),
    ("refresh: 90", "spec.refresh: the number 90 is not one of Link, IP -> "),
    ("onConflict: defend", "spec.onConflict: 'defend' is not one of Defend, Yield -> did you mean Defend?"),
    ("dryRun: 'yes'", "spec.dryRun: must be true or false, and 'yes' is neither -> "),
    ("rate: 0", "spec.rate: the number 0 is not between 1 and 100000 -> "),
    ("rate: 100000", ""),
    ("rate: 100001", "spec.rate: the number 100001 is not between 1 and 100000 -> "),
    ("rate: 8/s", "spec.rate: must be a whole number, and '8/s' is not -> "),
    ("rate: '8'", "spec.rate: must be a whole number, and '8' is not -> write 8 without quotes"),
    ("burst: 10000", ""),
    ("burst: 10001", "spec.burst: the number 10001 is not between 1 and 10000 -> "),
    ("answerRate: 1000000", ""),
    ("answerRate: 1000001", "spec.answerRate: the number 1000001 is not between 1 and 1000000 -> "),
    ("answerBurst: 100000", ""),
    ("answerBurst: 100001", "spec.answerBurst: the number 100001 is not between 1 and 100000 -> "),
    ("segmentRate: 100000", ""),
    ("segmentRate: 100001", "spec.segmentRate: the number 100001 is not between 1 and 100000 -> "),
    ("segmentBurst: 10000", ""),
    ("segmentBurst: 10001", "spec.segmentBurst: the number 10001 is not between 1 and 10000 -> "),
    ("refreshSeconds: 0", ""),
    ("refreshSeconds: 30", ""),
    ("refreshSeconds: 3600", ""),
    ("refreshSeconds: 29", "spec.refreshSeconds: less than 30 seconds is too often for a refresh"
     " -> write 0 (never), or 30 to 3600"),
    ("refreshSeconds: 1", "spec.refreshSeconds: less than 30 seconds is too often for a refresh"
     " -> write 0 (never), or 30 to 3600"),
    ("refreshSeconds: 3601", "spec.refreshSeconds: the number 3601 is not between 0 and 3600 -> "),
    ("refreshSeconds: -1", "spec.refreshSeconds: the number -1 is not between 0 and 3600 -> "),
    ("refreshSeconds: 90s", "spec.refreshSeconds: must be a whole number, and '90s' is not -> "),
    (f"group: {'x' * 63}", ""),
    (f"group: {'x' * 64}", "spec.group: has 64 characters; at most 63 are read"
     " -> use at most 63 letters, digits and - _ . (not first or last)"),
    ("group: top of rack", "spec.group: 'top of rack' is not a name of a group"
     " -> use at most 63 letters, digits and - _ . (not first or last)"),
    ("interfaces: [eth0/1]", "spec.interfaces[0]: 'eth0/1' is not a name that an interface can have"
     " -> write a name as `ip link` shows it"),
    ("interfaces: eth0", "spec.interfaces: must be a list, and 'eth0' is not -> write [eth0]"),
    ("nodeSelector: []", "spec.nodeSelector: unknown key -> did you mean nodeSelectors?"),
    ("refreshSecond: 60", "spec.refreshSecond: unknown key -> did you mean refreshSeconds?"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "expected"), PROBLEMS, ids=[spec[:40] for spec, _ in PROBLEMS])
def test_mistakes_are_told_with_what_to_write(spec: str, expected: str) -> None:
    config, problems = parsed(policy(spec))
    assert said(problems) == [expected] * bool(expected)
    assert bool(config.link_policies) != bool(expected)


def test_metallb_has_no_such_kind() -> None:
    config, problems = parsed(policy("", version="metallb.io/v1beta1"))
    assert said(problems) == [f"apiVersion: 'metallb.io/v1beta1' has no LinkPolicy -> write {OURS}"]
    assert config == Config()


# --- what is hardly meant -------------------------------------------------------------------------------

INSPECTED = (
    "warning spec.{}: {} frames a second and {} at once are {} in one second: a port with ARP inspection goes"
    " down at 15 -> write a rate and a burst that are 14 at most together"
)
STRICT = [
    ("profile: strict", ""),
    ("profile: strict, rate: 11", ""),
    ("profile: strict, rate: 12", INSPECTED.format("rate", 12, 3, 15)),
    ("profile: strict, burst: 6", ""),
    ("profile: strict, burst: 7", INSPECTED.format("burst", 8, 7, 15)),
    ("profile: strict, rate: 4, burst: 10", ""),
    ("profile: strict, rate: 5, burst: 10", INSPECTED.format("rate", 5, 10, 15)),
    ("profile: standard, rate: 50, burst: 50", ""),
    ("profile: strict, answerRate: 50", "warning spec.answerRate: answerRate changes nothing: with profile"
     " strict, answers are in the budget of all frames -> remove it, or write another profile"),
    ("profile: strict, answerBurst: 50", "warning spec.answerBurst: answerBurst changes nothing: with profile"
     " strict, answers are in the budget of all frames -> remove it, or write another profile"),
    ("profile: fast, answerRate: 50, answerBurst: 50", ""),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "expected"), STRICT, ids=[spec for spec, _ in STRICT])
def test_strict_is_for_ports_that_count(spec: str, expected: str) -> None:
    config, problems = parsed(policy(spec))
    assert said(problems) == [expected] * bool(expected)
    assert len(config.link_policies) == 1


def test_the_profiles_are_those_of_the_guard() -> None:
    assert {*linkpolicies._PROFILE.words, "off"} == set(PROFILES)
    strict = PROFILES["strict"]
    assert (strict.rate, strict.burst) == (linkpolicies.STRICT_RATE, linkpolicies.STRICT_BURST)
    assert strict.together
    description = linkpolicies.LINK_POLICY.fields["profile"].description
    for name in ("standard", "fast"):
        profile = PROFILES[name]
        assert f"{name} ({profile.rate} " in description
        assert f" {profile.burst} at once" in description
    assert (strict.rate, strict.burst) == (PROFILES["standard"].rate, PROFILES["standard"].burst)


# --- several --------------------------------------------------------------------------------------------

RACK_1, RACK_2 = "nodeSelectors: [{matchLabels: {rack: '1'}}]", "nodeSelectors: [{matchLabels: {rack: '2'}}]"
ETH1 = "interfaces: [eth1]"
SEVERAL = [
    ("both for everything", [("a", ""), ("b", "")], {"b": "a"}),
    ("in whatever order they are written", [("b", ""), ("a", "")], {"b": "a"}),
    ("no conditions: everything, too", [("a", "nodeSelectors: [{}]"), ("b", "")], {"b": "a"}),
    ("the one for everything hides what comes after it", [("default", ""), ("storage", ETH1)],
     {"storage": "default"}),
    ("and not what comes before it", [("default", ETH1), ("rest", "")], {}),
    ("a link of all nodes, then of some", [("a", ETH1), ("b", f"{ETH1}, {RACK_1}")], {"b": "a"}),
    ("all links of some nodes, then one", [("a", RACK_1), ("b", f"{ETH1}, {RACK_1}")], {"b": "a"}),
    ("other nodes, other links", [("a", RACK_1), ("b", RACK_2), ("c", ETH1)], {}),
    ("more nodes than the first", [("a", RACK_1), ("b", "")], {}),
    ("each of three is told of the one that counts", [("a", ""), ("b", ""), ("c", RACK_1)],
     {"b": "a", "c": "a"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("policies", "hidden"), [row[1:] for row in SEVERAL], ids=[row[0] for row in SEVERAL]
)
def test_the_first_by_name_counts(policies: list[tuple[str, str]], hidden: dict[str, str]) -> None:
    config, problems = parsed("".join(policy(spec, name) for name, spec in policies))
    assert [one.name for one in config.link_policies] == sorted(name for name, _ in policies)
    assert {one.severity for one in problems} <= {"warning"}
    assert {one.path for one in problems} <= {"metadata.name"}
    told = {one.object.partition("/")[2]: one.what.split(" ")[0].partition("/")[2] for one in problems}
    assert told == hidden
    for one in config.link_policies:  # as the speakers see it
        covering = [link for link in ("eth0", "eth1") if config.link_policy({"rack": "1"}, link) == one]
        assert not (covering and one.name in hidden)


def test_how_it_is_told() -> None:
    assert said(parsed(policy("") + policy("", "b"))[1]) == [
        "warning metadata.name: LinkPolicy/a (f:1) is about everything, too, and the first by name counts:"
        " this one changes nothing -> remove one of the two, or give one nodeSelectors or interfaces"
    ]
    assert said(parsed(policy("") + policy(ETH1, "b"))[1]) == [
        "warning metadata.name: LinkPolicy/a (f:1) is about all of these links, too, and the first by name"
        " counts: this one changes nothing -> rename one of the two, so that the one for fewer links comes"
        " first"
    ]


def test_one_that_is_wrong_hides_nothing() -> None:
    config, (problem,) = parsed(policy("rate: 0") + policy("", "b"))
    assert problem.object == "LinkPolicy/a"
    assert config.link_policies == (LinkPolicy("b"),)


def test_many_take_no_longer_than_they_are_many() -> None:
    config, problems = parsed("".join(policy(f"interfaces: [eth{n}]", f"p{n}") for n in range(2000)))
    assert len(config.link_policies) == 2000
    assert problems == []


# --- where kinds are enumerated -------------------------------------------------------------------------


def test_people_write_it_in_our_group_only() -> None:
    kind = KINDS["LinkPolicy"]
    assert kind in AUTHORED
    assert kind.versions_in("lbspeaker.io") == [OURS]
    assert kind.versions_in("metallb.io") == []
    assert all(kind.versions_in("lbspeaker.io") for kind in AUTHORED)
    assert {kind.name for kind in KINDS.values() if not kind.versions_in("metallb.io")} == {
        *("LinkPolicy", "EffectiveConfiguration", "Speaker")
    }


def test_its_definition_has_the_words_and_bounds() -> None:
    (crd,) = [crd for crd in crds() if crd["spec"]["names"]["kind"] == "LinkPolicy"]
    (version,) = crd["spec"]["versions"]
    assert [column["name"] for column in version["additionalPrinterColumns"]] == [
        *("Profile", "Rate", "Dry Run", "Accepted", "Age", "Reason", "Message")
    ]
    fields = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert {key: one["enum"] for key, one in fields.items() if "enum" in one} == {
        "profile": ["standard", "strict", "fast"],
        "refresh": ["Link", "IP"],
        "dad": ["off", "fast", "rfc"],
        "onConflict": ["Defend", "Yield"],
    }
    assert {key: one["default"] for key, one in fields.items() if "default" in one} == {
        "profile": "standard",
        "refreshSeconds": 90,
        "refresh": "Link",
        "dad": "fast",
        "onConflict": "Defend",
        "dryRun": False,
    }
    assert {key: (one["minimum"], one["maximum"]) for key, one in fields.items() if "maximum" in one} == {
        "rate": (1, 100_000),
        "burst": (1, 10_000),
        "answerRate": (1, 1_000_000),
        "answerBurst": (1, 100_000),
        "segmentRate": (1, 100_000),
        "segmentBurst": (1, 10_000),
        "refreshSeconds": (0, 3600),
    }


def test_a_migration_brings_it_along_after_the_advertisements() -> None:
    ad = "{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: lan}}\n"
    documents, _ = read(policy("") + ad, "f")
    found = migrate(documents, {}, "lbspeaker-system")
    assert found.problems == ()
    assert [one.object for one in found.objects] == ["L2Advertisement/lan", "LinkPolicy/a"]
    assert found.objects[1].namespace == "lbspeaker-system"
    assert yaml.safe_load(yaml.safe_dump(found.objects[1].value))["apiVersion"] == OURS
