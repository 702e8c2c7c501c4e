"""What we make of FRR's prefix lists is what FRR makes of them."""

from ipaddress import ip_network

import pytest

from lbspeaker.model import Family
from lbspeaker.wire import router_frr
from tests.peers.conftest import Frr, run

pytestmark = pytest.mark.peers

LISTS: dict[Family, dict[str, list[str]]] = {
    4: {
        "any": ["permit any"],
        "none": ["deny any"],
        "zero": ["permit 0.0.0.0/0"],
        "exact": ["permit 10.1.0.0/16"],
        "longer": ["deny 10.1.2.3/32", "permit 10.1.0.0/16 ge 17"],
        "between": ["permit 10.1.0.0/16 ge 24 le 31"],
        "up-to": ["permit 10.1.0.0/16 le 24", "deny 10.0.0.0/8 le 32", "permit any"],
    },
    6: {
        "any": ["permit any"],
        "none": ["deny any"],
        "up-to": ["permit 2001:db8::/32 le 64", "deny 2001:db8::/32 le 128", "permit any"],
    },
}
PREFIXES: dict[Family, list[str]] = {
    4: ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "192.0.2.1/32"],
    6: ["::/0", "2001:db8::/32", "2001:db8:0:1::/64", "2001:db8::1/128", "fd00::1/128"],
}
WORDS: dict[Family, str] = {4: "ip", 6: "ipv6"}


def configure(frr: Frr) -> None:
    lines = [
        f"{WORDS[family]} prefix-list {name} {rule}"
        for family, lists in LISTS.items()
        for name, rules in lists.items()
        for rule in rules
    ]
    words = [word for line in ["configure terminal", *lines] for word in ("-c", line)]
    run("vtysh", "--vty_socket", str(frr.directory), "-d", "bgpd", *words)


def test_our_verdict_on_a_prefix_is_that_of_frr(frr: Frr) -> None:
    frr.start()
    configure(frr)
    questions = [f"show {word} prefix-list json" for word in WORDS.values()]
    found = router_frr.parse({question: frr.ask(question) for question in questions}).prefix_lists
    assert len(found) == sum(len(lists) for lists in LISTS.values())
    for (family, name), rules in found.items():
        for prefix in PREFIXES[family]:
            taken = next((rule.permit for rule in rules if rule.matches(ip_network(prefix))), False)
            said = frr.ask(f"debug prefix-list {name} match {prefix}")
            assert f"yields {'PERMIT' if taken else 'DENY'} for {prefix}" in said, rules
