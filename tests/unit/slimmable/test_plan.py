import torch

from aequa_lightning.slimmable import SlicePlan

FULL = {"weight": torch.arange(24.0).view(4, 6), "bias": torch.arange(4.0)}
PREFIX = SlicePlan({"weight": (slice(0, 2), slice(0, 3)), "bias": (slice(0, 2),)}, {"weight": (2, 3), "bias": (2,)})
SEGMENTS = SlicePlan(
    {"weight": (torch.tensor([0, 2]), torch.tensor([0, 3, 5])), "bias": (slice(0, 4),)},
    {"weight": (2, 3), "bias": (4,)},
)


def test_plan_take_agrees_with_plain_indexing_and_passes_gradients_back() -> None:
    full = {name: tensor.clone().requires_grad_() for name, tensor in FULL.items()}
    for plan, rows, columns in ((PREFIX, [0, 1], [0, 1, 2]), (SEGMENTS, [0, 2], [0, 3, 5])):
        part = plan.take(full)["weight"]
        assert torch.equal(part, FULL["weight"][rows][:, columns])
        (gradient,) = torch.autograd.grad(part.sum(), full["weight"])
        expected = torch.zeros(4, 6)
        expected[torch.tensor(rows)[:, None], torch.tensor(columns)] = 1
        assert torch.equal(gradient, expected)


def test_plan_take_of_slices_are_views_and_extract_owns_its_storage() -> None:
    assert PREFIX.take(FULL)["weight"].data_ptr() == FULL["weight"].data_ptr()
    for plan in (PREFIX, SEGMENTS):
        for name, part in plan.extract(FULL).items():
            assert part.untyped_storage().nbytes() == part.numel() * part.element_size()
            assert part.data_ptr() != FULL[name].data_ptr()


def test_plan_put_writes_into_place_and_nowhere_else() -> None:
    for plan in (PREFIX, SEGMENTS):
        target = {name: torch.full_like(tensor, -1) for name, tensor in FULL.items()}
        plan.put(target, plan.extract(FULL))
        written = {name: tensor != -1 for name, tensor in target.items()}
        assert sum(int(mask.sum()) for mask in written.values()) == plan.numel()
        for name, mask in written.items():
            assert torch.equal(target[name][mask], FULL[name][mask])
