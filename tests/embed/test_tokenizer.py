from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from clip_feature_codec.embed.onnx.tokenizer import Tokenizer
from clip_feature_codec.packs import DEFAULT_PACK, pack_folder

WORDS = [
    "a",
    "photo",
    "of",
    "the",
    "red",
    "bus,",
    "it's",
    "raining;",
    "they'll",
    "won't",
    "I'd",
    "we've",
    "I'm",
    "you're",
    "ANTIDISESTABLISHMENTARIANISM\nnaïve",
    "Café",
    "crème",
    "Straße",
    "ŁÓDŹ",
    "Привет",
    "мир",
    "你好",
    "日本語",
    "नमस्ते",
    "한국어",
    "🚌🔥👩\u200d👩\u200d👧",
    "½",
    "²",
    "١٢٣",
    "1234567",
    "3.14",
    "#tag",
    "@name",
    "a_b",
    "---",
    "...",
    "“quoted”\n&amp;",
    "&amp;amp;",
    "&lt;b&gt;",
    "&eacute;",
    "cafÃ©",
    "âœ”",
    "schÃ¶n",
    "<start_of_text>",
    "<END_OF_TEXT>",
    "<start_of",
    "<|endoftext|>",
    "\t",
    "\xa0",
    "\u200b",
    "\x00",
    "</w>",
    "w</w>\nxylophone",
    "zzzzzz",
    "qqqqqqqqqqqqqq",
    "İstanbul",
    "ß",
    "ſ",
    "ﬁ",
    "Å",
]


@pytest.fixture(scope="module")
def tokenizers() -> tuple[Tokenizer, SimpleTokenizer]:
    pack = pack_folder(DEFAULT_PACK)
    assert pack is not None
    return Tokenizer(pack / "clip/bpe_simple_vocab_16e6.txt.gz", 16), SimpleTokenizer(context_length=16)


def check(tokenizers: tuple[Tokenizer, SimpleTokenizer], texts: list[str]) -> None:
    ours, theirs = tokenizers
    found = ours(texts)
    assert found.dtype == np.int64
    assert found.tolist() == theirs(texts).tolist()


@given(text=st.text(max_size=40))
@example("")
@example("a " * 40)
@settings(max_examples=300, deadline=None)
def test_tokens_are_open_clip_s(tokenizers: tuple[Tokenizer, SimpleTokenizer], text: str) -> None:
    check(tokenizers, [text])


@given(
    words=st.lists(st.sampled_from(WORDS), max_size=12), between=st.sampled_from(["", " ", "  ", "\n", "-"])
)
@settings(max_examples=300, deadline=None)
def test_tokens_of_words_are_open_clip_s(
    tokenizers: tuple[Tokenizer, SimpleTokenizer], words: list[str], between: str
) -> None:
    check(tokenizers, [between.join(words), *words])


def test_no_texts_are_no_rows(tokenizers: tuple[Tokenizer, SimpleTokenizer]) -> None:
    assert tokenizers[0]([]).shape == (0, 16)
