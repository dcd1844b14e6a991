"""What configurations say is what is taken: nothing reads as nothing, and what is written is read again."""

import math
import random
from typing import Any

import pytest
import yaml

from aequa_lightning.cli.yaml_values import ReadsAsNothing, check_finite, check_guards, dump, load
from aequa_lightning.errors import InputError

NUMBERS = ["7e12345", "1e5", "007", "0x1F", "0o17", "1_000", "true", "null", "~", "", "#key", "-", ".inf", "2026-01-01"]


def test_every_text_is_read_as_it_was_written() -> None:
    draw = random.Random(0)
    letters = "0123456789eExob.+-_:~#'\"{}[]&*!|>%@ \ntrué"
    drawn = ["".join(draw.choices(letters, k=number % 8)) for number in range(1000)]
    for text in [*NUMBERS, *drawn]:
        content = {"run_dir": text, "list": [text]}
        assert load(dump(content), path="config.yaml") == content


@pytest.mark.parametrize("text", ["", " ", "~", "#key.pub", "# a: 1", "Null", "---"])
def test_an_option_that_reads_as_nothing_is_no_null(text: str) -> None:
    with pytest.raises(ReadsAsNothing, match="reads as nothing"):
        load(text)
    assert load("null") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trainer:\n", "line 1: trainer has no value"),
        ("trainer:\nmodel:\n", "line 1: trainer has no value"),
        ("seed_everything: 1\ntrainer:\n  signing_key: #key.pem\n", "line 3: trainer.signing_key has no value"),
        ("trainer:\n  max_rounds: 3\n  threads: 1\n  max_rounds: 4\n", "line 4: trainer.max_rounds is given twice"),
        ("trainer: {standalone_dir: ~}", "trainer.standalone_dir has no value"),
        ("trainer: {callbacks: [{class_path: Mine, init_args: }]}", "trainer.callbacks.init_args has no value"),
        ("trainer: 7", "trainer is no block"),
        ("trainer: []", "trainer is no block"),
        ("data: null", "data is no block"),
        ("model: true", "model is no block"),
    ],
)
def test_a_block_or_key_without_content_is_named(text: str, words: str) -> None:
    with pytest.raises(yaml.YAMLError, match=rf"f\.yaml, .*{words}"):
        load(text, path="f.yaml")


def test_null_a_class_name_and_an_empty_mapping_are_taken() -> None:
    text = "trainer: {signing_key: null, callbacks: []}\nmodel: SlimmableClassifier\ndata: {}\noptimizer: null\n"
    assert load(text, path="f.yaml") == yaml.safe_load(text)


@pytest.mark.parametrize(
    "words",
    [
        ["--public_key", "null"],
        ["--trainer.signing_key=null"],
        ["--trainer.signing_key= null "],
        ["--trainer={signing_key: null}"],
        ["--trainer", "{max_rounds: 1, signing_key: ~}"],
    ],
)
def test_a_guard_cannot_be_turned_off_on_the_command_line(words: list[str]) -> None:
    with pytest.raises(InputError, match="names no file"):
        check_guards(["test", *words])


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AEQUA_FIT__TRAINER__SIGNING_KEY", "null"),
        ("AEQUA_TEST__PUBLIC_KEY", " null"),
        ("AEQUA_FIT__TRAINER", "{signing_key: null}"),
        ("AEQUA_FIT", "{trainer: {signing_key: null}}"),
    ],
)
def test_a_guard_cannot_be_turned_off_in_the_environment(variable: str, value: str) -> None:
    with pytest.raises(InputError, match=f"{variable}=.* names no file"):
        check_guards(["fit"], {variable: value})
    check_guards(["fit"], {variable.replace("AEQUA", "OTHER"): value})


def test_a_guard_may_be_a_file_and_null_in_a_file() -> None:
    check_guards(["fit", "--trainer.signing_key", "mine.pem", "--config", "a.yaml", "--trainer={signing_key: a.pem}"])
    check_guards(["fit", "--public_key", "null.pem"], {"AEQUA_FIT__TRAINER__SIGNING_KEY": "a.pem", "AEQUA_X": "[: {"})


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("place", [lambda x: {"a": {"init_args": {"b": x}}}, lambda x: {"a": {"b": [1.0, x]}}])
def test_numbers_that_are_not_finite_are_refused_by_name(value: float, place: Any) -> None:
    with pytest.raises(InputError, match=r"a\.b=.* is no finite number"):
        check_finite(place(value))
