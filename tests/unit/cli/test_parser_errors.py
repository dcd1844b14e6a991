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
        ("--seed_everything=true", ("seed_everything", "'True'", "int")),
        ("--trainer.max_epochs 3", ("trainer.max_epochs", "max_rounds", "local_epochs")),
        (
            "--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping",
            ("aequa_lightning.callbacks.EarlyStopping",),
        ),
        ("--model=lightning.pytorch.demos.boring_classes.BoringModel", ("must derive from SlimmableModule",)),
    ],
)
def test_a_wrong_value_takes_a_few_lines(capsys: pytest.CaptureFixture[str], option: str, words: tuple[str]) -> None:
    assert aequa("fit", "--config", DIGITS, "--trainer.mechanism=Aequa", *option.split()) == 2
    message = capsys.readouterr().err
    assert [word for word in words if word not in message] == [], message
    assert len(message.splitlines()) <= 6


def test_a_verb_without_a_configuration_says_what_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert aequa("fit") == 2
    assert "give --config FILE, such as aequa fit --config configs/digits.yaml" in capsys.readouterr().err


def test_a_misspelt_verb_is_told_all_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert aequa("fti") == 2
    message = capsys.readouterr().err
    assert "did you mean fit?" in message
    assert all(verb in message for verb in ("validate", "sweep", "slurm", "allocate", "audit", "report"))
