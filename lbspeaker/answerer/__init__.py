"""The answerer: the process that speaks ARP and NDP for a speaker. Orders in, frames out, reports back.

It is a process of its own so that nothing the speaker does (decoding ten thousand objects, collecting
garbage) delays an answer; it has one thread, one epoll loop, and no Kubernetes objects. When the speaker
goes, the socket pair closes and the answerer ends: a dead speaker answers nothing. When the speaker hangs,
the answerer tells the other members, and gives way to whoever claims.

`python -m lbspeaker.answerer FD`, where FD is its end of the socket pair.
"""
