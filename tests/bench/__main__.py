"""`python -m tests.bench`: see the package."""

import argparse
import datetime
import os
import platform
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType

import msgspec

from lbspeaker.errors import LbspeakerError, Unable
from tests.bench.catalog import ALL
from tests.bench.results import Result, table

OUTPUT = Path("build/bench.json")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure what is promised.")
    parser.add_argument(
        "only", nargs="*", metavar="NAME", help="benchmarks whose name begins so (default: all)"
    )
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument("--date", default=datetime.date.today().isoformat(), help="to be written down")
    return parser.parse_args()


def chosen(only: list[str]) -> list[str]:
    """Return the names to run; an exact name means itself alone. Raises Unable for an unknown one."""
    names: list[str] = []
    for wanted in only or [""]:
        found = [wanted] if wanted in ALL else [name for name in ALL if name.startswith(wanted)]
        if not found:
            raise Unable(f"there is no benchmark {wanted!r}", f"there are {', '.join(ALL)}")
        names += [name for name in found if name not in names]
    return names


def machine(date: str) -> dict[str, object]:
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
        "date": date,
    }


def run(names: list[str]) -> tuple[list[Result], bool]:
    """Run them one after another; return their results, and whether all of them could be measured."""
    results: list[Result] = []
    whole = True
    for name in names:
        began = time.monotonic()
        print(f"{name} …", file=sys.stderr, end=" ", flush=True)
        try:
            results += ALL[name]()
            print(f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        except LbspeakerError as error:
            whole = False
            print(f"not measured: {error}", file=sys.stderr, flush=True)
        except Exception:
            whole = False
            traceback.print_exc()
    return results, whole


def main() -> int:
    def end(_number: int, _frame: FrameType | None) -> None:
        sys.exit(130)  # by way of every `finally`

    signal.signal(signal.SIGTERM, end)
    options = arguments()
    if options.list:
        print("\n".join(ALL))
        return 0
    try:
        names = chosen(options.only)
    except Unable as error:
        print(error, file=sys.stderr)
        return 2
    facts = machine(options.date)
    results, whole = run(names)
    OUTPUT.parent.mkdir(exist_ok=True)
    rows = [msgspec.to_builtins(row) | {"machine": facts} for row in results]
    OUTPUT.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")
    print(table(results))
    if not whole:
        return 2
    return 1 if any(row.met is False for row in results) else 0


if __name__ == "__main__":
    sys.exit(main())
