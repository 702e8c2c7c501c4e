"""`python -m tests.fuzz`: see the package."""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.fuzz.engine import Outcome, fuzz, keep
from tests.fuzz.parsers import PARSERS


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Send nonsense to all parsers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PARSERS)} (default: all)")
    parser.add_argument(
        "--inputs", type=int, default=1_000_000, help="for each parser (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="another one gives other inputs")
    parser.add_argument("--keep", action="store_true", help="put what fails into the corpus")
    found = parser.parse_args()
    unknown = set(found.names) - PARSERS.keys()
    if unknown:
        parser.error(f"no parser is called {', '.join(sorted(unknown))}")
    return found


def told(outcome: Outcome, seed: int) -> str:
    rate, share = outcome.inputs / outcome.seconds, outcome.accepted / max(outcome.inputs, 1)
    lines = [
        f"{outcome.name:14} {outcome.inputs:>10,} inputs {rate:>9,.0f}/s {share:>4.0%} accepted, "
        f"slowest {outcome.slowest_s * 1000:.1f} ms, {len(outcome.failures)} failures"
    ]
    for failure in outcome.failures.values():
        lines += [
            f"  {failure.exception} at {failure.where}, {failure.times} times",
            f"  seed {seed}, input {failure.number}: {failure.data.hex()}",
        ]
    return "\n".join(lines)


def main() -> int:
    wanted = arguments()
    names = wanted.names or list(PARSERS)
    failed = False
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for future in as_completed([pool.submit(fuzz, name, wanted.inputs, wanted.seed) for name in names]):
            outcome = future.result()
            print(told(outcome, wanted.seed), flush=True)
            failed |= bool(outcome.failures)
            if wanted.keep:
                for failure in outcome.failures.values():
                    print(f"  kept as {keep(outcome.name, failure.data)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
