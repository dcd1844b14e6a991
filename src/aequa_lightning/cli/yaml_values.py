"""YAML of configurations and options: a value never silently reads as null, and what is dumped reads as it was.

jsonargparse finds a parser's loader and dumper by the name of a mode: `MODE`.
"""

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from jsonargparse import get_loader, set_dumper, set_loader

from aequa_lightning.errors import InputError

MODE = "aequa"
# Prefix of environment variables that hold values of options.
PREFIX = "AEQUA"
# Variables with the prefix that hold something else: where the tests find data.
OTHER_VARIABLES = ("AEQUA_TEST_DATA",)
# Required blocks: an empty one in a later file would replace that of an earlier one.
BLOCKS = ("trainer", "model", "data")
# Files of keys: a run that is given one must not silently run without it.
GUARDS = ("signing_key", "public_key")
_NULL, _TEXT = "tag:yaml.org,2002:null", "tag:yaml.org,2002:str"


class ReadsAsNothing(yaml.YAMLError):
    """A text that YAML reads as null, though it does not say ``null``."""


def load(text: str, path: str | None = None) -> Any:
    """Read the value of an option, or a configuration.

    Args:
        text: YAML.
        path: Of a configuration, its file, or an empty string where it has none; None for the value of an option.

    Raises:
        ReadsAsNothing: The text is empty, a comment or a tilde, or a key of the configuration has no value. The parser
            keeps such a value of an option as the text that it is.
        YAMLError: The text is no YAML, or a configuration has a key twice or a block that is no block.

    Example:
        >>> load("[1, 2]"), load("null")
        ([1, 2], None)
        >>> load("#key.pem")
        Traceback (most recent call last):
        aequa_lightning.cli.yaml_values.ReadsAsNothing: '#key.pem' reads as nothing; write null if that is meant.
    """
    if path is not None:
        _check(text, where=f"{path}, " if path else "")
    value = _read(text)
    if value is None and text.strip() != "null":
        raise ReadsAsNothing(f"{text!r} reads as nothing; write null if that is meant.")
    return value


def dump(content: Any) -> str:
    r"""Write YAML that `load` reads as it was, also texts that look like numbers.

    Example:
        >>> dump({"run_dir": "7e12345", "seed": 7})
        "run_dir: '7e12345'\nseed: 7\n"
    """
    return yaml.dump(content, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False)


def check_guards(words: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Check that neither the command line nor the environment sets a key file to null.

    Args:
        words: The words after ``aequa``.
        environment: Variables that may hold values of options, such as ``AEQUA_FIT__TRAINER__SIGNING_KEY``.

    Raises:
        InputError: One does.

    Example:
        >>> check_guards(["test", "--public_key=mine.pem"], {"AEQUA_TEST__PUBLIC_KEY": "mine.pem"})
    """
    given = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option.startswith("--"):
            given.append((option, option.lstrip("-").rpartition(".")[2], value if equals else following))
    for variable, value in (environment or {}).items():
        if variable.startswith(f"{PREFIX}_"):
            given.append((variable, variable.rpartition("__")[2].removeprefix(f"{PREFIX}_").lower(), value))
    for source, name, value in given:
        # A file of settings may say null, which is what is valid without the file.
        if name != "config" and _turns_off(name, value):
            raise InputError(f"{source}={value} names no file for a guard; give a PEM file, or leave it out.")


def check_variables(environment: Mapping[str, str], known: Sequence[str]) -> None:
    """Check that every variable that looks like an option's is one.

    Args:
        environment: All variables.
        known: Names of those that fill options.

    Raises:
        InputError: A name begins like them, and no option reads it.

    Example:
        >>> check_variables({"HOME": "/", "AEQUA_FIT__CONFIG": "run.yaml"}, ["AEQUA_FIT__CONFIG"])
    """
    for name in environment:
        if name.startswith(f"{PREFIX}_") and name not in (*known, *OTHER_VARIABLES):
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {near[0]}?" if near else f"they are {PREFIX}_VERB__OPTION."
            raise InputError(f"The environment variable {name} fills no option; {meant} Otherwise unset it.")


def _turns_off(name: str, text: str) -> bool:
    """Return whether an option, or an entry of the block that it holds, sets a key file to null."""
    if name in GUARDS:
        return text.strip() == "null"  # as `load` reads it
    try:
        return any(guard in text for guard in GUARDS) and _without_guard(_read(text))
    except yaml.YAMLError:
        return False


def _without_guard(content: Any) -> bool:
    if isinstance(content, dict):
        return any((key in GUARDS and value is None) or _without_guard(value) for key, value in content.items())
    return isinstance(content, list) and any(map(_without_guard, content))


def check_finite(content: Any, key: str = "") -> None:
    """Check that no number of a parsed configuration is infinite or NaN.

    Args:
        content: Plain values in dictionaries and lists.
        key: What names them.

    Raises:
        InputError: One is.

    Example:
        >>> check_finite({"lr": 0.1, "widths": [1.0, 0.5]})
    """
    if isinstance(content, dict):
        for name, value in content.items():
            check_finite(value, f"{key}.{name}" if key and name != "init_args" else key or str(name))
    elif isinstance(content, list | tuple):
        for value in content:
            check_finite(value, key)
    elif isinstance(content, float) and not math.isfinite(content):
        raise InputError(f"{key}={content} is no finite number; give one.")


def _read(text: str) -> Any:
    try:
        return get_loader("yaml")(text)
    except (TypeError, ValueError, RecursionError) as error:  # numbers as keys, endless digits, deep nesting
        raise yaml.YAMLError(f"{text[:40]!r} cannot be read: {error}") from error


class _Dumper(yaml.SafeDumper):
    """Quotes every text that the loader would not read as the same text."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        plain = _read(text) == text
    except yaml.YAMLError:
        plain = False
    return dumper.represent_scalar(_TEXT, text, style=None if plain else "'")


_Dumper.add_representer(str, _represent)


def _check(text: str, *, where: str) -> None:
    """Refuse keys that are given twice or have no value, and blocks that are not mappings."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    for key, line in _given_twice(root):
        raise yaml.YAMLError(f"{where}line {line}: {key} is given twice; remove one.")
    for key, line in _without_value(root):
        raise ReadsAsNothing(f"{where}line {line}: {key} has no value; write null if that is meant, or remove the key.")
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        named = isinstance(value, yaml.ScalarNode) and value.tag == _TEXT  # a class, or a file that holds the block
        if key.value in BLOCKS and not (named or isinstance(value, yaml.MappingNode)):
            line = value.start_mark.line + 1
            raise yaml.YAMLError(f"{where}line {line}: {key.value} is no block of settings; fill it, or remove it.")


def _given_twice(node: yaml.Node | None, path: str = "") -> Iterator[tuple[str, int]]:
    """Yield the dotted key and the line of each key that its mapping holds already."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = f"{path}.{key.value}" if path else str(key.value)
            if name in seen:
                yield name, key.start_mark.line + 1
            seen.add(name)
            yield from _given_twice(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _given_twice(value, path)


def _without_value(node: yaml.Node | None, path: str = "") -> Iterator[tuple[str, int]]:
    """Yield the dotted key and the line of each value that reads as null without being ``null``."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _without_value(value, f"{path}.{key.value}" if path else str(key.value))
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _without_value(value, path)
    elif isinstance(node, yaml.ScalarNode) and node.tag == _NULL and node.value.lower() != "null":
        yield path, node.start_mark.line + 1


set_loader(MODE, load, (yaml.YAMLError,))
set_dumper(MODE, dump)
