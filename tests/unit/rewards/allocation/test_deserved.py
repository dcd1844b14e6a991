"""Properties of paying what is deserved, on random curves and contributions."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from aequa_lightning.rewards.allocation.allocate import Allocation
from aequa_lightning.rewards.allocation.certificate import check_payout
from aequa_lightning.rewards.allocation.curve import offered_widths
from aequa_lightning.rewards.allocation.deserved import DeservedAccuracy, Rounding, deserved_accuracy, pay_deserved

Case = tuple[list[float], dict[float, float], DeservedAccuracy, list[float]]


def cases(number: int = 300) -> Iterator[Case]:
    """Contributions (some of them equal), a curve that need not rise, what they deserve, and floors."""
    random = np.random.default_rng(0)
    for _ in range(number):
        widths = random.choice(np.arange(1, 17) / 16, random.integers(1, 8), replace=False)
        curve = {float(width): round(random.random(), 2) for width in (*widths, 1.0)}
        contributions = random.choice(random.random(5).round(2), 6).tolist()
        floors = random.choice(random.random(4).round(2), 6).tolist()
        slope = float(random.choice([0.0, 0.5, 1.0, 2.0]))
        yield (
            contributions,
            curve,
            deserved_accuracy(contributions, offered_widths(curve), slope=slope, standalone=floors),
            floors,
        )


@pytest.mark.parametrize("rounding", ["no_better", "nearest"])
def test_order_and_equality_hold_and_nobody_is_paid_below_its_floor_where_a_width_meets_it(rounding: Rounding) -> None:
    for contributions, curve, due, floors in cases():
        told = pay_deserved(contributions, curve, due, rounding=rounding, floors=floors)
        for brought, received, floor in zip(contributions, told.accuracies, floors, strict=True):
            assert received >= min(floor, curve[1.0])
            for other, others in zip(contributions, told.accuracies, strict=True):
                assert others <= received if other < brought else True
                assert others == received if other == brought else True
        assert told.widths[int(np.argmax(contributions))] == 1.0
        assert check_payout(told, curve, unpaid=[]) == []


def test_without_floors_nobody_but_the_lowest_is_paid_more_than_it_deserves() -> None:
    for contributions, curve, due, _ in cases():
        told = pay_deserved(contributions, curve, due, rounding="no_better", floors=None)
        worst = told.curve.accuracies[0]
        assert (told.accuracies <= np.maximum(due.of(contributions), worst) + 1e-9).all()


@pytest.mark.parametrize("rounding", ["no_better", "nearest"])
@pytest.mark.parametrize("floored", [False, True])
def test_what_is_paid_lies_within_the_step_of_the_curve_that_holds_the_target(
    rounding: Rounding, floored: bool
) -> None:
    for contributions, curve, due, floors in cases():
        told = pay_deserved(contributions, curve, due, rounding=rounding, floors=floors if floored else None)
        levels, worst = told.curve.accuracies, 0.0
        for index, received in enumerate(told.accuracies):
            target = due.of(contributions)[index]
            if floored:
                # Whoever contributed no more has a claim that this one has, too.
                claims = [
                    floor
                    for brought, floor in zip(contributions, floors, strict=True)
                    if brought <= contributions[index]
                ]
                target = max(target, *claims)
            target = min(max(target, levels[0]), levels[-1])
            step = levels[levels >= target - 1e-9].min() - levels[levels <= target + 1e-9].max()
            gap = abs(received - target)
            assert gap <= step + 1e-9
            assert gap <= step / 2 + 1e-9 or rounding == "no_better" or floored
            worst = max(worst, gap)
        assert told.certificate["largest_gap"] == pytest.approx(worst, abs=1e-9)
        assert worst <= told.certificate["largest_step"] + 1e-9


def test_with_equal_gains_nobody_loses_and_who_is_lifted_gets_the_least_that_meets_its_claim() -> None:
    # Six deserve what the curve has no point for: .7 lies above, .54 below what they reach alone.
    curve = {0.25: 0.54, 0.5: 0.7, 1.0: 0.9}
    standalone = [0.61, 0.62, 0.65, 0.63, 0.64, 0.88]
    due = deserved_accuracy(standalone, offered_widths(curve), slope=1.0, standalone=standalone)
    down = pay_deserved(standalone, curve, due, rounding="no_better", floors=None)
    assert down.accuracies.tolist() == [0.54] * 5 + [0.9]
    told = pay_deserved(standalone, curve, due, rounding="no_better", floors=standalone)
    assert told.accuracies.tolist() == [0.7] * 5 + [0.9]
    assert told.minimum_gain > 0


def test_a_claim_above_the_full_width_is_paid_the_full_width_and_named() -> None:
    told = pay_deserved(
        [0.5, 0.6], {0.5: 0.3, 1.0: 0.4}, DeservedAccuracy(0.6, 1.0), rounding="no_better", floors=[0.5, 0.6]
    )
    assert told.widths.tolist() == [1.0, 1.0]
    assert "participant 0: alone it is better than the full width" in told.certificate["remarks"]


def test_the_certificate_states_the_gap_and_the_step_that_bounds_it() -> None:
    told = pay_deserved(
        [0.5, 0.9], {0.5: 0.4, 0.75: 0.6, 1.0: 0.9}, DeservedAccuracy(0.9, 1.0), rounding="nearest", floors=None
    )
    assert told.certificate["largest_gap"] == pytest.approx(0.1)
    assert told.certificate["largest_step"] == pytest.approx(0.3)
    assert "at most 0.1000, the curve's largest step is 0.3000" in told.certificate["remarks"][0]


@pytest.mark.parametrize("rounding", ["no_better", "nearest"])
def test_another_width_than_the_rule_pays_is_found(rounding: Rounding) -> None:
    curve, brought = {0.25: 0.5, 0.5: 0.7, 0.75: 0.8, 1.0: 0.9}, [0.4, 0.72, 0.9]
    told = pay_deserved(brought, curve, DeservedAccuracy(0.9, 1.0), rounding=rounding, floors=None)
    assert told.accuracies.tolist() == [0.5, 0.7, 0.9]

    def with_second(width: float) -> Allocation:
        widths, accuracies = told.widths.copy(), told.accuracies.copy()
        widths[1], accuracies[1] = width, curve[width]
        return replace(told, widths=widths, accuracies=accuracies)

    for width in (0.25, 0.75, 1.0):
        [fault] = check_payout(with_second(width), curve, unpaid=[])
        assert fault.startswith("participant 1 deserves 0.72: the rule pays 0.7, not")
    low = replace(told, certificate={**told.certificate, "reference": 0.8})
    assert check_payout(low, curve, unpaid=[]) == ["the top contributor deserves 0.8, less than the full width"]
