from pathlib import Path
from typing import Any

import pytest

from aequa_lightning.errors import InputError
from aequa_lightning.sweep.matrix import Cell, Matrix

BASE = {
    "trainer": {"max_rounds": 3},
    "data": {"class_path": "DigitsData", "init_args": {"participants": 4, "partition_seed": 9}},
}
AXES: dict[str, Any] = {
    "data": {
        "digits": None,
        "fashion": {"data": {"class_path": "FashionMNISTData", "init_args": {"participants": 10}}},
    },
    "partition": {"skew": {"data": {"init_args": {"partition": {"class_path": "LabelSkew", "init_args": {"k": 3}}}}}},
    "mechanism": {"aequa": None, "cgsv": {"trainer": {"mechanism": {"class_path": "CGSV"}, "max_rounds": 5}}},
}
ADJUST = [
    {"data": ["fashion"], "partition": "skew", "set": {"data": {"init_args": {"partition": {"init_args": {"k": 30}}}}}}
]


def make(**changes: Any) -> Matrix:
    return Matrix(**{"folder": Path("out"), "base": BASE, "axes": AXES, "seeds": [0, 7], "adjust": ADJUST, **changes})


def test_cells_of_a_group_follow_each_other() -> None:
    cells = make().cells()
    assert len(cells) == len(set(cells)) == 2 * 1 * 1 * 2 * 2
    assert [cell.mechanism for cell in cells] == ["aequa", "cgsv"] * 4
    assert all(one.group == other.group for one, other in zip(cells[::2], cells[1::2], strict=True))
    assert cells[1].name == "digits/skew/-/cgsv/0"


def test_a_configuration_is_the_base_with_what_each_axis_changes() -> None:
    matrix = make()
    plain = matrix.configuration(Cell("digits", "skew", "-", "aequa", 7))
    assert plain == {
        "trainer": {"report": False, "export_programs": False, "max_rounds": 3},
        "seed_everything": 7,
        "data": {
            "class_path": "DigitsData",
            "init_args": {
                "participants": 4,
                "partition_seed": 7,
                "partition": {"class_path": "LabelSkew", "init_args": {"k": 3}},
            },
        },
    }
    other = matrix.runnable(Cell("fashion", "skew", "-", "cgsv", 0))
    assert other["trainer"]["run_dir"] == "out/cells/fashion/skew/-/cgsv/0"
    assert other["trainer"]["standalone_dir"] == "out/standalone"
    assert (other["trainer"]["max_rounds"], other["trainer"]["mechanism"]) == (5, {"class_path": "CGSV"})
    # Another class begins with no arguments of the former; what is adjusted comes last.
    partition = {"class_path": "LabelSkew", "init_args": {"k": 30}}
    expected = {"participants": 10, "partition_seed": 0, "partition": partition}
    assert other["data"] == {"class_path": "FashionMNISTData", "init_args": expected}
    assert BASE["data"]["init_args"] == {"participants": 4, "partition_seed": 9}  # nothing was changed in place


def test_some_cells_can_be_chosen() -> None:
    chosen = make().select({"data": "digits", "seed": [7]})
    assert [cell.name for cell in chosen] == ["digits/skew/-/aequa/7", "digits/skew/-/cgsv/7"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": []}, r"axes.seed=\[\] must hold"),
        ({"seeds": [1, 1]}, "different numbers"),
        ({"axes": {"data": {"a/b": None}}}, "'a/b' is no name"),
        ({"axes": {"data": {"..": None}}}, "'..' is no name"),
        ({"axes": {"data": {0.5: None}}}, "0.5 is no name"),
        ({"axes": {"network": {"cnn": ["x"]}}}, r"axes.network.cnn is \['x'\]"),
        ({"adjust": [{"data": "digits"}]}, r"adjust\[0\] must name"),
        ({"adjust": [{"date": "digits", "set": {}}]}, r"adjust\[0\]: there is no axis 'date'"),
        ({"adjust": [{"mechanism": ["cgs"], "set": {}}]}, r"adjust\[0\].mechanism: 'cgs' is unknown; .* aequa, cgsv"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**changes)


def test_what_is_left_out_of_cells_is_made_where_the_sweep_asks_for_it() -> None:
    axes = {"mechanism": {"a": {"trainer": {"export_programs": True}}}}
    matrix = make(base={"trainer": {"report": True}}, axes=axes, adjust=[])
    assert matrix.configuration(Cell("-", "-", "-", "a", 0))["trainer"] == {"report": True, "export_programs": True}
