"""A whole layer-2 cluster on one virtual clock: no sockets, no processes, no waiting.

    python -m tests.sim [--seeds N] [--first N] [--nodes N]      many seeds, on all cores
    python -m tests.sim --seed N -v                              the story of one

What decides is the product's (`core.speaker`, `segment`, `voice`, `guard`); what moves values between these
is written again here, and does what `lbspeaker/speaker.py` and `lbspeaker/answerer` do, quirks included:

    api       objects, watches that deliver in order and late, writes that get lost
    wire      one segment: broadcasts with loss, delay and copies; who hears whom; clients with an ARP cache
    speaker   the speaker's program         answerer   its packet process
    world     nodes, and all that can happen to them
    weather   a bounded time in which much of it does, by the seed; then calm
    watch     what must hold at every step, and after the calm

The same seed gives the same story. Each node has a clock of its own, with an offset, up to 1 % too fast or
slow.
"""
