"""Mechanisms: sockets, processes, files, HTTP. They move data and decide nothing."""
