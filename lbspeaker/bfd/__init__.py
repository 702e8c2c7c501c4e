"""The process that speaks BFD for a speaker: which routers to watch in, what became of each out.

A process of its own, before others in priority and without a garbage collector, because a packet that leaves
200 ms late is a router that withdraws routes. It has one thread, one epoll loop, and nothing else to do. When
the speaker goes, the socket pair closes and the process ends, so that a dead speaker is down for routers.

`python -m lbspeaker.bfd FD`, where FD is its end of the socket pair.
"""
