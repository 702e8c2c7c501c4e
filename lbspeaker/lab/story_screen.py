"""What the viewer of the demo sees: chapters, documents, the wire live, charts, and the table at the end.

On a terminal the live view redraws itself; elsewhere (a CI log) it is one plain line a second, if it changed.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lbspeaker.lab.chart import LEGEND
from lbspeaker.lab.story_claims import Claim

_REDRAW_S = 0.125
_LINE_S = 1.0

View = Callable[[], tuple[Table, str]]  # the same for eyes and for logs


class Screen:
    """Everything goes to one rich console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._live: Live | None = None
        self._view: View | None = None
        self._drawn = float("-inf")
        self._last_line = ""

    @property
    def width(self) -> int:
        return self._console.width

    def chapter(self, title: str) -> None:
        self._console.print()
        self._console.print(Text(f"{self._elapsed()}  {title}", "bold underline"), soft_wrap=True)

    def say(self, line: str) -> None:
        """Say one line; what is in back quotes is code."""
        text = Text("  ")
        for number, part in enumerate(line.split("`")):
            text.append(part, "cyan" if number % 2 else "")
        self._console.print(text, soft_wrap=True)

    def documents(self, text: str, note: str = "") -> None:
        """Show YAML as it is applied."""
        self._console.print(Text(f"  $ kubectl apply -f -{f'      # {note}' if note else ''}", "cyan"))
        for line in text.rstrip().splitlines():
            yaml = Text(f"    {line}")
            yaml.highlight_regex(r"[A-Za-z0-9]+(?=:( |$))", "blue")
            self._console.print(yaml, soft_wrap=True)

    def chart(self, lines: Sequence[str]) -> None:
        self._console.print()
        for line in [*lines, LEGEND]:
            text = Text(f"  {line}".rstrip())
            text.highlight_regex("[╌✗]+", "bold red")
            text.highlight_regex("░+", "yellow")
            text.highlight_regex("[▁▂▃▄▅▆▇█]+", "green")
            self._console.print(text, soft_wrap=True)
        self._console.print()

    def claim(self, claim: Claim) -> None:
        mark, style = ("✓", "green") if claim.held else ("✗", "bold red")
        goal = "" if claim.held else f", and should be {claim.goal}"
        line = Text.assemble(f"  {mark} ", (claim.what, "bold"), f": {claim.measured}{goal}")
        line.stylize(style, 2, 3)
        self._console.print(line, soft_wrap=True)

    def table(self, claims: Sequence[Claim], seconds: float) -> None:
        """Show the table of what was measured, and the verdict."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in ("", "CLAIM", "MEASURED", "GOAL", "HELD"):
            table.add_column(column, overflow="fold")
        for claim in claims:
            mark = Text("✓", "green") if claim.held else Text("✗", "bold red")
            table.add_row(claim.part, claim.what, claim.measured, claim.goal, mark)
        self._console.print()
        self._console.print(Text("What was measured", "bold underline"))
        self._console.print(table)
        broken = sum(not claim.held for claim in claims)
        verdict = f"{broken} of {len(claims)} claims did not hold" if broken else "every claim held"
        self._console.print(f"\n{verdict}, in {seconds:.1f} s", style="bold red" if broken else "bold green")

    # --- live -------------------------------------------------------------------------------------------

    @contextmanager
    def live(self, view: View) -> Iterator[None]:
        """Show `view` while the block runs; it is drawn when somebody calls `tick`, and at the end."""
        self._view, self._last_line, self._drawn = view, "", float("-inf")
        if self._console.is_terminal:
            with Live(view()[0], console=self._console, auto_refresh=False, transient=True) as self._live:
                try:
                    yield
                finally:
                    self._live = self._view = None
        else:
            yield
        self._say_now(view()[1])
        self._view = None

    def tick(self) -> None:
        """Draw the live view, if there is one and it is time."""
        now = time.monotonic()
        every_s = _REDRAW_S if self._live else _LINE_S
        if self._view is None or now - self._drawn < every_s:
            return
        self._drawn = now
        table, line = self._view()
        if self._live:
            self._live.update(table, refresh=True)
        else:
            self._say_now(line)

    def _say_now(self, line: str) -> None:
        if line != self._last_line:
            self._last_line = line
            self.say(f"{self._elapsed()}  {line}")

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._began:4.1f} s"
