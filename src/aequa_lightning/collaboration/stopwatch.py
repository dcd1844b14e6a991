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

    def lap(self) -> tuple[float, dict[str, float]]:
        """Return the seconds since the last lap, in total and by phase, and start the next lap."""
        now = time.perf_counter()
        total, phases = now - self._start, dict(self._phases)
        self._start = now
        self._phases.clear()
        return total, {**phases, "other": max(0.0, total - sum(phases.values()))}
