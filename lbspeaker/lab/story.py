"""The story that `lbspeaker demo` tells: three chapters on one lab, each a list of claims that were measured.

A chapter whose claims do not all hold is the last: what would follow it would be about a broken lab.
"""

from collections.abc import Callable, Iterator

from lbspeaker.lab import story_failover, story_routes, story_segment
from lbspeaker.lab.story_claims import Claim, held
from lbspeaker.lab.story_stage import Stage

Chapter = Callable[[Stage], list[Claim]]


def tell(stage: Stage) -> list[Claim]:
    """Tell the story in a lab that is up and empty; return every claim that was judged.

    With guard profile `off` it is only the war story. Raises Unavailable if the lab itself fails.
    """
    claims: list[Claim] = []
    for chapter in _chapters(stage):
        judged = chapter(stage)
        claims += judged
        if not held(judged):
            stage.screen.say("the story ends here: what follows would be about a broken lab")
            break
    return claims


def _chapters(stage: Stage) -> Iterator[Chapter]:
    if stage.guard == "off":
        yield story_segment.storm_from_nothing
        return
    yield story_segment.services_at_once
    calm = story_segment.wire_times(stage)
    yield lambda it: story_segment.storm(it, calm)
    yield story_segment.recover
    yield story_failover.power_cut
    yield story_routes.routes
