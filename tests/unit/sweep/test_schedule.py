import random

import pytest

from aequa_lightning.sweep.matrix import Cell
from aequa_lightning.sweep.schedule import Schedule


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("groups", [1, 2, 5])
def test_every_cell_is_taken_once_and_no_group_is_begun_twice(workers: int, groups: int) -> None:
    chance = random.Random(f"{workers}/{groups}")
    cells = [
        Cell("d", "p", "-", f"m{number}", seed) for seed in range(groups) for number in range(chance.randint(1, 6))
    ]
    schedule = Schedule(cells)
    taken: list[Cell] = []
    finished: set[Cell] = set()
    busy: dict[int, Cell] = {}
    switches = dict.fromkeys(range(workers), 0)
    last: dict[int, object] = {}
    while True:
        for worker in range(workers):
            if worker not in busy and (cell := schedule.take(worker)):
                begun = [other for other in taken if other.group == cell.group]
                # Whoever joins a group finds what its first cell left behind.
                assert not begun or begun[0] in finished
                switches[worker] += last.get(worker) not in (None, cell.group)
                last[worker] = cell.group
                taken.append(cell)
                busy[worker] = cell
        if not busy:
            break
        worker = chance.choice(sorted(busy))
        cell = busy.pop(worker)
        finished.add(cell)
        schedule.done(cell)
    assert sorted(taken) == sorted(cells)
    assert schedule.left == 0
    if workers == 1:
        assert switches[0] == groups - 1
