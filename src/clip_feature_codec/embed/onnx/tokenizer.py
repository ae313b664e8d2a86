"""Words to tokens as open_clip's tokenizer makes them, without open_clip, which takes torch along.

CLIP's tokens are byte pair encoding (Sennrich et al. 2016) of UTF-8 bytes: those of each word are joined pair
by pair, in the order of the list of merges, and the last one carries the mark ``</w>``.
"""

from __future__ import annotations

import gzip
import html
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import ftfy
import numpy as np
import regex
from numpy.typing import NDArray

_MERGES = 49152 - 256 - 2  # the file holds more than CLIP was trained with
_START, _END = "<start_of_text>", "<end_of_text>"
_WORDS = regex.compile(
    rf"{_START}|{_END}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+", regex.IGNORECASE
)


class Tokenizer:
    """CLIP's own tokenizer.

    Args:
        merges: the file ``bpe_simple_vocab_16e6.txt.gz`` of OpenAI's CLIP.
        length: L, how many tokens a text has at most, start and end included.
    """

    def __init__(self, merges: Path, length: int) -> None:
        lines = gzip.decompress(merges.read_bytes()).decode("utf-8").split("\n")[1 : 1 + _MERGES]
        self._ranks = {line: rank for rank, line in enumerate(lines)}
        self._letters = _printable_bytes()
        alone = [self._letters[byte] for byte in sorted(self._letters, key=_rank_of_byte)]
        names = [*alone, *(f"{letter}</w>" for letter in alone), *(line.replace(" ", "") for line in lines)]
        self._tokens = {name: token for token, name in enumerate([*names, _START, _END])}
        self._length = length
        self._joined = lru_cache(maxsize=10_000)(self._join)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Tokens of N texts, int64 (N, L): start, words, end, zeros. Words that are too many are left out."""
        rows = np.zeros((len(texts), self._length), np.int64)
        for row, text in zip(rows, texts, strict=True):
            words = regex.findall(_WORDS, _cleaned(text))
            tokens = [self._tokens[part] for word in words for part in self._joined(word)]
            tokens = [self._tokens[_START], *tokens[: self._length - 2], self._tokens[_END]]
            row[: len(tokens)] = tokens
        return rows

    def _join(self, word: str) -> list[str]:
        """The parts of a word that have tokens."""
        if word in (_START, _END):
            return [word]
        parts = [self._letters[byte] for byte in word.encode()]
        parts[-1] += "</w>"
        while len(parts) > 1:
            pairs = [f"{a} {b}" for a, b in pairwise(parts)]
            best = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            joined, i = [], 0
            while i < len(parts):
                found = i < len(pairs) and pairs[i] == best
                joined.append(parts[i] + parts[i + 1] if found else parts[i])
                i += 2 if found else 1
            parts = joined
        return parts


def _cleaned(text: str) -> str:
    """Mended where it was decoded wrongly, without HTML's entities, in single spaces and small letters."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def _is_printable(byte: int) -> bool:
    return ord("!") <= byte <= ord("~") or ord("¡") <= byte <= ord("¬") or ord("®") <= byte <= ord("ÿ")


def _rank_of_byte(byte: int) -> tuple[bool, int]:
    """Bytes' order in the vocabulary: those that can be printed come first."""
    return not _is_printable(byte), byte


def _printable_bytes() -> dict[int, str]:
    """A letter for each byte: itself, or one from 256 on where that cannot be printed."""
    others = [byte for byte in range(256) if not _is_printable(byte)]
    return {byte: chr(byte) for byte in range(256)} | {byte: chr(256 + i) for i, byte in enumerate(others)}
