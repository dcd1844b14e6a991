"""What the parser says of a value that does not fit: the option, what it takes, what was given, in a few lines."""

import pytest

from tests.helpers.command import DIGITS, aequa


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--trainer.mechanism.slope=steep", ("trainer.mechanism.slope", "'steep'", "float or Literal['auto']")),
        ("--trainer.mechanism=Aqua", ("trainer.mechanism", "'Aqua'", "the name of a class")),
        ("--optimizer=SGD --optimizer.lr=fast", ("optimizer.lr", "'fast'", "float")),
        ("--trainer.max_rounds=ten", ("trainer.max_rounds", "ten")),
        ("--data=NpzData", ("data", "required", "path")),
        ("--data.partition=[]", ("data.partition", "Partition")),
    ],
)
def test_a_wrong_value_takes_a_few_lines(capsys: pytest.CaptureFixture[str], option: str, words: tuple[str]) -> None:
    assert aequa("fit", "--config", DIGITS, "--trainer.mechanism=Aequa", *option.split()) == 2
    message = capsys.readouterr().err
    assert [word for word in words if word not in message] == [], message
    assert len(message.splitlines()) <= 6
