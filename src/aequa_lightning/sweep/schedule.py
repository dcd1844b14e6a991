"""The order in which the processes of a sweep take cells."""

from collections import deque
from collections.abc import Sequence

from aequa_lightning.sweep.matrix import Cell


class Schedule:
    """Hands out cells so that the shared standalone results of a group are computed once.

    A process stays in its group while that has cells, since the data are loaded and the standalone results known. Then
    it begins a new group; when there is none left, it takes cells of another process's group whose first cell is done.

    Args:
        cells: All cells that are to run, those of a group in order.

    Example:
        >>> cells = [Cell("digits", "even", "-", mechanism, 0) for mechanism in ("a", "b", "c")]
        >>> schedule = Schedule(cells)
        >>> schedule.take(0).mechanism, schedule.take(1)
        ('a', None)
        >>> schedule.done(cells[0])
        >>> schedule.take(1).mechanism, schedule.take(0).mechanism, schedule.left
        ('b', 'c', 0)
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._waiting: dict[tuple[str, str, str, int], deque[Cell]] = {}
        for cell in cells:
            self._waiting.setdefault(cell.group, deque()).append(cell)
        self._fresh = deque(self._waiting)
        self._shared: set[tuple[str, str, str, int]] = set()
        self._own: dict[int, tuple[str, str, str, int]] = {}

    @property
    def left(self) -> int:
        """Number of cells that have not been taken."""
        return sum(map(len, self._waiting.values()))

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self._waiting)

    def take(self, worker: int) -> Cell | None:
        """Return the next cell for a process; None: there is none for it now."""
        own = self._own.get(worker)
        if own is None or not self._waiting[own]:
            own = self._next_group()
            if own is None:
                return None
            self._own[worker] = own
        return self._waiting[own].popleft()

    def done(self, cell: Cell) -> None:
        """Note that a cell has ended: its group's standalone results are there."""
        self._shared.add(cell.group)

    def _next_group(self) -> tuple[str, str, str, int] | None:
        if self._fresh:
            return self._fresh.popleft()
        longest = max(self._shared, key=lambda group: len(self._waiting[group]), default=None)
        return longest if longest is not None and self._waiting[longest] else None
