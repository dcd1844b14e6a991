"""The parser's messages, shortened to a line or two: the option, what it takes, what was given."""

import re

from aequa_lightning.cli.lightning_options import instead
from aequa_lightning.cli.renamed import new_name, refused_options

# Lines that say how the parser came to its conclusion.
_STEPS = ("Does not validate", "Subtypes:", "Errors:", "Given value", "Problem with given class_path", "Expected")
_NO_CLASS = ("dot import path", "Expected a path but")
_MOST_LINES = 5
_NO_SUBCLASS = r"Import path does not correspond to a subclass of (\w+)"


def condense(message: str) -> str:
    """Return a parser's message in a few lines: the option, what it takes, and what was given.

    Args:
        message: Of an ``ArgumentError``; a short one stays as it is, unless it refuses a name of an earlier version.

    Example:
        >>> print(
        ...     condense('''Parser key "trainer.mechanism":
        ...   Does not validate against any of the Union subtypes
        ...   Errors:
        ...     - Problem with given class_path 'aequa_lightning.mechanisms.Aequa':
        ...         Parser key "slope":
        ...           Does not validate against any of the Union subtypes
        ...           Errors:
        ...             - Expected a <class 'float'>
        ...             - Expected a typing.Literal['auto']
        ...           Given value: steep
        ...     - Expected a <class 'NoneType'>''')
        ... )
        trainer.mechanism.slope: 'steep' does not fit; expected is float or Literal['auto'].
    """
    lines = [line for line in message.splitlines() if line.strip()]
    key, block = _innermost(lines)
    if renamed := new_name(key, message):
        return renamed
    for option in refused_options(key, message):
        if sentence := instead(option):
            return sentence
    if missing := re.search(r"arguments are required: (\w+)\.data, \w+\.model", message):
        return (
            f"aequa {missing[1]} needs data and a model: give --config FILE, such as "
            f"aequa {missing[1]} --config configs/digits.yaml."
        )
    # The parser wraps what a function says that computes an option from another one.
    message = re.sub(r"^Call to compute_fn of link .*? failed: ", "", message)
    if base := re.search(_NO_SUBCLASS, message):
        from aequa_lightning.trainer.given_objects import refused_class  # takes seconds

        given = re.findall(r"Given value: (.+)", message)
        return refused_class(key, given[-1] if given else "the class", base[1])
    if wrong := re.fullmatch(r'Parser key "(.+)":\s+Expected an? (.+)\. Got value: (.*)', message.strip()):
        return f"{wrong[1]}: {wrong[3]!r} does not fit; expected is {_plain(wrong[2])}."
    if len(lines) <= _MOST_LINES:
        return message
    texts = [line.strip().removeprefix("- ") for line in block]
    given = [text.removeprefix("Given value: ") for text in texts if text.startswith("Given value: ")]
    given += re.findall(r"\. Got value: (.*)", "\n".join(texts))
    expected = re.findall(r"Expected an? ((?!dot import path|path ).+?)(?:\. Got value: .*)?$", "\n".join(texts), re.M)
    said = [text for text in texts if not text.startswith(_STEPS)]
    if any(word in text for text in texts for word in _NO_CLASS):
        expected = ["the name of a class", *expected]
    about = f"{key}: " if key else ""
    if said:
        return about + "\n".join(said[:_MOST_LINES])
    types = " or ".join(dict.fromkeys(_plain(text) for text in expected))
    return f"{about}{given[0]!r} does not fit; expected is {types}." if given and types else about + texts[-1]


def _innermost(lines: list[str]) -> tuple[str, list[str]]:
    """Return the dotted key of the innermost option, and the lines that are about it."""
    keys: list[str] = []
    depth, start = -1, 0
    for number, line in enumerate(lines):
        found = re.match(r'( *)(?:- )?Parser key "(.+?)":', line)
        if found and len(found[1]) > depth:
            # Below a block that was given as a whole, keys are whole themselves.
            keys = [found[2]] if keys and found[2].startswith(f"{keys[0]}.") else [*keys, found[2]]
            depth, start = len(found[1]), number + 1
    end = next((at for at in range(start, len(lines)) if len(lines[at]) - len(lines[at].lstrip()) <= depth), len(lines))
    return ".".join(keys), lines[start:end]


def _plain(kind: str) -> str:
    named = re.fullmatch(r"<class '(.+)'>", kind)
    name = named[1].rpartition(".")[2] if named else kind.removeprefix("typing.")
    return "null" if name == "NoneType" else name
