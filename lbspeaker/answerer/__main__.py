"""`python -m lbspeaker.answerer FD`."""

import signal
import socket
import sys

from lbspeaker.answerer.program import Answerer

# Signals are for the speaker; the answerer ends when the speaker lets go of the socket.
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
Answerer(socket.socket(fileno=int(sys.argv[1]))).run()
