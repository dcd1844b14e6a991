"""Where the time of a round goes."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up seconds by phase; what no phase claims is ``other``."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._phases: dict[str, float] = defaultdict(float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time within the block to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._phases[name] += time.perf_counter() - start

    def read(self) -> tuple[float, dict[str, float]]:
        """Return the seconds so far, in total and by phase."""
        total = time.perf_counter() - self._start
        return total, {**self._phases, "other": max(0.0, total - sum(self._phases.values()))}
