"""`python -m tests.sim`: see the package."""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.sim.story import Outcome, tell

PROGRESS_S = 10.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim", description="Simulate clusters in bad weather."
    )
    parser.add_argument("--seeds", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--nodes", type=int, help="so many in each (default: the seed decides)")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("-v", action="store_true", dest="verbose", help="with --seed: tell its story")
    return parser.parse_args()


def told(outcome: Outcome) -> str:
    lines = [f"seed {outcome.seed} ({outcome.nodes} nodes) fails:"]
    return "\n".join(lines + [f"    {failure}" for failure in outcome.failures])


def all_of(seeds: range, nodes: int | None, processes: int) -> int:
    """Run all `seeds`; return how many fail."""
    began = said = time.monotonic()
    done = failed = frames = 0
    slowest = 0.0
    with ProcessPoolExecutor(processes) as pool:
        for future in as_completed([pool.submit(tell, seed, nodes) for seed in seeds]):
            outcome = future.result()
            done += 1
            frames += outcome.frames
            slowest = max(slowest, outcome.settled_s)
            if outcome.failures:
                failed += 1
                print(told(outcome), flush=True)
            if time.monotonic() - said > PROGRESS_S:
                said = time.monotonic()
                rate = done / (said - began)
                left = (len(seeds) - done) / rate
                print(f"{done} of {len(seeds)} seeds, {failed} fail; {left:.0f} s to go", flush=True)
    print(
        f"{done} seeds in {time.monotonic() - began:.0f} s, {failed} fail; {frames} frames; "
        f"the slowest settled {slowest:.0f} s after the calm"
    )
    return failed


def main() -> int:
    wanted = arguments()
    if wanted.seed is not None:
        outcome = tell(wanted.seed, wanted.nodes, print if wanted.verbose else None)
        print(told(outcome) if outcome.failures else f"seed {wanted.seed} holds ({outcome.seconds:.1f} s)")
        return 1 if outcome.failures else 0
    seeds = range(wanted.first, wanted.first + wanted.seeds)
    return 1 if all_of(seeds, wanted.nodes, wanted.processes) else 0


if __name__ == "__main__":
    sys.exit(main())
