"""Words as tokens, unknown ones in hash buckets, and the character n-grams of every word.

Source: arXiv 1810.12836, section 3. It does not say how text is cut into words: here a word is a
run of letters, marks and digits, and every other character but white space is one of its own.
Languages that put no spaces between words are better served by sentencepiece.
"""

import collections
import dataclasses
import functools
import hashlib
import itertools
import json
import re
import sys
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from unicodedata import category

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.files import parse_json
from lightxling.base.shapes import Bool, Int, Integer
from lightxling.config.schema import TokenizerConfig
from lightxling.corpus.pieces import PUNCTUATION, SPECIAL, UNK, Tokenizer

WORDS_FORMAT = "lightxling-words"
NGRAMS = (3, 4)
"""Characters of an n-gram; < and > stand around the word."""
MOST = 32
"""n-grams kept of a word: all of words up to 16 characters."""


@dataclasses.dataclass(frozen=True)
class WordTable:
    """What is to be looked up for U words.

    Attributes:
      rows: int32 [U], the row of the word, or of its bucket, in the embedding table.
      ngrams: uint32 [U, G], hashes of the word's n-grams; 0 beyond them.
    """

    rows: np.ndarray
    ngrams: np.ndarray

    def buckets(self, words: Integer[np.ndarray, "*B"], count: int) -> Int[np.ndarray, "*B G"]:
        """Rows of the words' n-grams in a table of `count` buckets after row 0; 0 beyond them."""
        hashes = self.ngrams[words]
        return np.where(hashes > 0, 1 + hashes % np.uint32(count), 0).astype(np.int32)


class Lexicon:
    """Numbers of words: those of the vocabulary first, then unknown ones as they come."""

    def __init__(self, known: int):
        self.known = known
        self.new: dict[str, int] = {}

    def number(self, word: str) -> int:
        return self.new.setdefault(word, self.known + len(self.new))


def write_vocabulary(sentences: Iterable[str], config: TokenizerConfig, path: Path) -> None:
    """Writes the vocabulary of the most frequent words; of equally frequent ones the first by code
    point."""
    counts = collections.Counter()
    for sentence in sentences:
        counts.update(cut_words(sentence, config.lowercase))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    model = {
        "format": WORDS_FORMAT,
        "lowercase": config.lowercase,
        "hash_buckets": config.hash_buckets,
        "words": ranked[: config.vocab_size - len(SPECIAL)],
    }
    Path(path).write_text(json.dumps(model, ensure_ascii=False), "utf-8", newline="\n")


@functools.cache
def _word_pattern() -> re.Pattern[str]:
    characters = map(chr, range(sys.maxunicode + 1))
    others = [c for c in characters if category(c)[0] in "PSC" and not c.isspace()]
    ranges = []
    for _, run in itertools.groupby(enumerate(others), lambda pair: ord(pair[1]) - pair[0]):
        characters = [c for _, c in run]
        ranges.append(f"{re.escape(characters[0])}-{re.escape(characters[-1])}")
    inside = "".join(ranges)
    return re.compile(f"[^\\s{inside}]+|[{inside}]")


def cut_words(sentence: str, lowercase: bool) -> list[str]:
    """The words of a sentence, in NFKC."""
    text = unicodedata.normalize("NFKC", sentence)
    return _word_pattern().findall(text.lower() if lowercase else text)


@functools.lru_cache(maxsize=1 << 18)
def ngram_hashes(word: str) -> tuple[int, ...]:
    """32 bits of each n-gram of a word, never 0."""
    text = f"<{word}>"
    found = (text[i : i + n] for n in NGRAMS for i in range(len(text) - n + 1))
    return tuple(
        max(zlib.crc32(ngram.encode("utf-8", "replace")), 1)
        for ngram in itertools.islice(found, MOST)
    )


class WordTokenizer(Tokenizer):
    """A vocabulary of words.

    Ids 0, 1, 2 are <pad>, <unk> (which does not occur) and <MASK>, then come the words and the
    buckets: V rows of an embedding table. With a `Lexicon`, unknown words have numbers instead,
    from which `table` gives rows and n-grams.
    """

    def __init__(self, model: bytes, name: str = "the tokenizer model"):
        try:
            content = parse_json(model)
            self._words = [*SPECIAL, *content["words"]]
            self.lowercase, self._buckets = content["lowercase"], content["hash_buckets"]
            if content["format"] != WORDS_FORMAT or not all(
                isinstance(w, str) for w in self._words
            ):
                raise ValueError(content["format"])
            if type(self.lowercase) is not bool or type(self._buckets) is not int:
                raise ValueError("settings")
            if not 0 < self._buckets < 1 << 31:
                raise ValueError(f"hash_buckets {self._buckets}")
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{name} is damaged or not a vocabulary of words ({error}); run "
                "`lightxling prepare` again"
            ) from None
        self._numbers = {word: i for i, word in enumerate(self._words) if i >= len(SPECIAL)}
        self.vocab_size = len(self._words) + self._buckets
        self.dtype = np.dtype(np.uint32)
        self.sha256 = hashlib.sha256(model).hexdigest()

    def new_lexicon(self) -> Lexicon:
        return Lexicon(len(self._words))

    def encode(
        self, sentences: Sequence[str], max_length: int, lexicon: Lexicon | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        other = lexicon.number if lexicon else self._bucket
        rows = [
            [
                self._numbers[word] if word in self._numbers else other(word)
                for word in cut_words(sentence, self.lowercase)[:max_length]
            ]
            for sentence in sentences
        ]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        ids = np.fromiter(itertools.chain.from_iterable(rows), self.dtype, lengths.sum())
        return ids, lengths

    def _bucket(self, word: str) -> int:
        return len(self._words) + zlib.crc32(word.encode("utf-8", "replace")) % self._buckets

    def table(self, numbers: Integer[np.ndarray, " U"], lexicon: Lexicon) -> WordTable:
        """Rows and n-grams of words by their numbers; the special ones have no n-grams."""
        new = list(lexicon.new)
        rows = np.zeros(len(numbers), np.int32)
        ngrams = np.zeros((len(numbers), MOST), np.uint32)
        for place, number in enumerate(numbers.tolist()):
            is_known = number < lexicon.known
            word = self._words[number] if is_known else new[number - lexicon.known]
            rows[place] = number if is_known else self._bucket(word)
            if number >= len(SPECIAL):
                hashes = ngram_hashes(word)
                ngrams[place, : len(hashes)] = hashes
        return WordTable(rows, ngrams)

    def unknown(self, ids: np.ndarray) -> Bool[np.ndarray, " N"]:
        return ids >= len(self._words)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        known = len(self._words)
        return " ".join(self._words[i] if i < known else self._words[UNK] for i in map(int, ids))

    def pieces(self) -> list[str]:
        return [*self._words, *(f"<bucket {i}>" for i in range(self._buckets))]

    def maskable(self) -> np.ndarray:
        """Returns bool [V]: False for special ids, buckets and punctuation."""
        words = np.array([word not in PUNCTUATION for word in self._words])
        words[: len(SPECIAL)] = False
        return np.concatenate([words, np.zeros(self._buckets, bool)])
