"""The Stanford Sentiment Treebank, sentence level, from local text files; the training part gives the vocabulary."""

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch

from aequa_lightning.data.loaded import Split
from aequa_lightning.data.module import CollaborativeData
from aequa_lightning.errors import InputError
from aequa_lightning.runtime.paths import user_path

PADDING, UNKNOWN = 0, 1


class SST5Data(CollaborativeData):
    """Sentences of film reviews in five classes, very negative to very positive (Socher et al., EMNLP 2013).

    A sample is the sentence's token numbers (int64), padded with 0 or cut to ``length``. Tokens are the lower-case
    words of the file; a word seen fewer than ``min_count`` times in the training part has number 1. The treebank's
    development part is not used: the server's validation part comes out of the training part, as for every data set.

    Args:
        root: Folder that holds ``stsa.fine.train`` and ``stsa.fine.test``, each line a class, a blank and a sentence.
        length: Tokens of a sample, at least 1.
        min_count: Occurrences in the training part that give a word its own number, at least 1.
        **kwargs: See `CollaborativeData`.

    Raises:
        InputError: When a file is missing, or a line has another form.
    """

    num_classes = 5

    kind: ClassVar[str] = "fine"

    def __init__(self, root: str, *, length: int = 56, min_count: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if length < 1 or min_count < 1:
            raise InputError(f"data.length ({length}) and data.min_count ({min_count}) must be at least 1")
        self.root = user_path(root, "data.root")
        self.min_count = min_count
        self.input_shape = (length,)
        for part in ("train", "test"):
            if not self._path(part).is_file():
                raise InputError(
                    f"{self._path(part)} is missing; expected in data.root are stsa.{self.kind}.train and"
                    f" stsa.{self.kind}.test, each line a class 0 to {self.num_classes - 1}, a blank and a sentence"
                )

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """Number of each known word, from 2; the most frequent first, equal counts in alphabetical order."""
        counts = Counter(token for tokens, _ in self._sentences("train") for token in tokens)
        known = sorted(
            (word for word, count in counts.items() if count >= self.min_count), key=lambda w: (-counts[w], w)
        )
        return {word: number for number, word in enumerate(known, start=UNKNOWN + 1)}

    @property
    def vocabulary_size(self) -> int:  # type: ignore[override]  # known only once the words have been counted
        """How many token numbers there are, those of padding and of unknown words included."""
        return len(self.vocabulary) + 2

    def load(self) -> tuple[Split, Split]:
        """Return the training and the test sentences as token numbers."""
        return self._numbered("train"), self._numbered("test")

    def _numbered(self, part: str) -> Split:
        sentences = self._sentences(part)
        (length,) = self.input_shape
        inputs = torch.full((len(sentences), length), PADDING)
        for row, (tokens, _) in zip(inputs, sentences, strict=True):
            numbers = [self.vocabulary.get(token, UNKNOWN) for token in tokens[:length]]
            row[: len(numbers)] = torch.tensor(numbers)
        return Split(inputs, torch.tensor([label for _, label in sentences]))

    def _sentences(self, part: str) -> list[tuple[list[str], int]]:
        path = self._path(part)
        labels = {str(number): number for number in range(self.num_classes)}
        sentences = []
        # splitlines would also split at other line separators, which occur inside sentences.
        for number, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n"), start=1):
            label, _, text = line.partition(" ")
            if label not in labels or not text.strip():
                raise InputError(
                    f"{path}, line {number} is {line[:40]!r}; expected a class 0 to {self.num_classes - 1}, a blank and"
                    " a sentence"
                )
            sentences.append((text.lower().split(), labels[label]))
        return sentences

    def _path(self, part: str) -> Path:
        return self.root / f"stsa.{self.kind}.{part}"


class SST2Data(SST5Data):
    """Sentences of film reviews in two classes, negative and positive; neutral ones are left out.

    Args:
        root: Folder that holds ``stsa.binary.train`` and ``stsa.binary.test``.
        **kwargs: See `SST5Data`.
    """

    num_classes = 2
    kind = "binary"
