"""`python -m lbspeaker.bfd FD`."""

import signal
import socket
import sys

from lbspeaker.bfd.program import Detector

# Signals are for the speaker; this process ends when the speaker lets go of the socket.
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
Detector(socket.socket(fileno=int(sys.argv[1]))).run()
