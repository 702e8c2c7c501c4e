"""What goes to the terminal: its width, and tables."""

import sys

from rich.console import Console
from rich.table import Table

_WIDE = 200


def console() -> Console:
    """The terminal. In a pipe, and so by `kubectl exec`, there is no width to keep to."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)


def table(*columns: str) -> Table:
    """A table without lines, in which nothing is cut off."""
    found = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in columns:
        found.add_column(column, overflow="fold")
    return found
