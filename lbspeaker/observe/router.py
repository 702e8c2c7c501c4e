"""What a router says of itself, asked once: FRR and BIRD by a command of the user, OPNsense by its API."""

from lbspeaker.shell import command
from lbspeaker.shell.rest import Rest
from lbspeaker.upstream import RouterView, Upstream
from lbspeaker.wire import router_bird, router_frr, router_opnsense

TIMEOUT_S = 30.0


def from_frr(how: str, up: Upstream, timeout_s: float = TIMEOUT_S) -> RouterView:
    """Ask the vtysh that `how` runs. Raises Unable, Unavailable, Malformed."""
    words = command.words(how)
    ask = router_frr.questions(up)
    return router_frr.parse({each: command.run(words, "-c", each, timeout_s=timeout_s) for each in ask})


def from_bird(how: str, up: Upstream, timeout_s: float = TIMEOUT_S) -> RouterView:
    """Ask the birdc that `how` runs. Raises Unable, Unavailable, Malformed."""
    words = command.words(how)
    answers = {each: command.run(words, each, timeout_s=timeout_s) for each in router_bird.questions(up)}
    further = router_bird.more(up, answers)
    answers |= {each: command.run(words, each, timeout_s=timeout_s) for each in further}
    return router_bird.parse(answers)


def from_opnsense(rest: Rest, up: Upstream) -> RouterView:
    """Ask the API of its plugin os-frr. Raises Unable, Unavailable, Malformed."""
    return router_opnsense.parse({each: rest.get(each) for each in router_opnsense.questions(up)})
