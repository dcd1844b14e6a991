"""Random networks against the judge: right or refused, never wrong, and seldom refused."""

import warnings

from hypothesis import HealthCheck, given, settings

from aequa_lightning.errors import InputError
from tests.helpers.random_networks import Recipe, cook, recipes
from tests.helpers.width_judge import fault_of

EXAMPLES = 40


def test_tracing_random_networks_are_right_or_refused() -> None:
    refused: list[Recipe] = []

    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(recipes())
    def check(recipe: Recipe) -> None:
        network, x = cook(recipe)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # layers that stay whole are told
            try:
                assert fault_of(network, x, (1.0, 0.75, 0.5, 0.3)) == ""
            except InputError:
                refused.append(recipe)

    check()
    assert len(refused) <= 0.05 * EXAMPLES
