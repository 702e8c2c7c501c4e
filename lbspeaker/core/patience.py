"""How long to wait before what failed is tried again: longer each time, and told only when it is news."""

RETRY_S, MOST_RETRY_S = 0.5, 30.0
_MOST_DOUBLINGS = 10


class Patience:
    """What failed, by key: how often, and why last."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, str]] = {}

    def done(self, key: str) -> None:
        """It worked: the next failure is the first again."""
        self._failures.pop(key, None)

    def failed(self, key: str, why: str) -> tuple[float, bool]:
        """It failed again: return the seconds until it is tried anew, and whether `why` is news."""
        times, before = self._failures.get(key, (0, ""))
        self._failures[key] = (min(times + 1, _MOST_DOUBLINGS), why)
        return min(RETRY_S * 2**times, MOST_RETRY_S), why != before
