"""What lbspeaker promises in numbers, measured; each with a reference measured in the same run.

    python -m tests.bench [NAME…]        all of them, or those whose name begins so
    python -m tests.bench --list

A table goes to standard output, the same numbers to build/bench.json. Exit status: 0 every goal is met,
1 one is missed, 2 something could not be measured. Nothing here touches a network of this machine: frames
are sent inside namespaces of labs that are made and removed, HTTP goes over loopback.
"""
