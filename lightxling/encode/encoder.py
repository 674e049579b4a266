"""The public `Encoder`: loads a run or an export and turns text into vectors.

    encoder = lightxling.Encoder.load("runs/en-fr")
    vectors = encoder.encode(["Where is the station?", "Où est la gare ?"])
    encoder.similarity(vectors, vectors)

On CPUs the encoder runs in numpy, which starts at once and pads nothing; on accelerators in jax,
over a few padded shapes that are compiled once.
"""

import functools
import io
import json
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Unpack

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.extras import needed_by
from lightxling.base.files import atomic, check_output
from lightxling.base.lines import LINE_LIMIT, SLAB, Lines, slabs
from lightxling.base.screen import Bar
from lightxling.base.shapes import Float, Int, Real
from lightxling.base.tree import nest
from lightxling.base.vectors import NotFinite, check_finite
from lightxling.base.vectors import normalize as unit
from lightxling.corpus.cleaning import clean
from lightxling.corpus.tokenizer import read_tokenizer
from lightxling.corpus.words import WordTable
from lightxling.encode.names import Named, OtherNames, as_named, check_named, prompt_of
from lightxling.model.params import dequantize
from lightxling.saved.adapters import with_adapters
from lightxling.saved.bundle import Bundle, load_bundle

TOKENS = 512
"""Tokens in one numpy batch: its activations stay in the processor's cache."""
LENGTHS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Padded lengths of jax batches."""

Backend = Literal["auto", "numpy", "jax"]
_Found = Iterator[tuple[np.ndarray, np.ndarray]]
"""Rows of some sentences, and their vectors; what has no tokens is left out."""
Slabs = Iterable[tuple[Sequence[str], np.ndarray]]
"""Sentences and their vectors, some at a time."""


class _Tokens(NamedTuple):
    """Ids of all sentences one after another, cut to `max_length`, and their offsets [N + 1].

    Where tokens are words, the ids number those of the sentences, after 0 for padding, and the
    table says what they stand for.
    """

    ids: np.ndarray
    offsets: np.ndarray
    words: WordTable | None


if TYPE_CHECKING:
    Vectors = np.ndarray
else:  # what the names of sentence-transformers ask for may be of another kind
    Vectors = Float[np.ndarray, "*N D"] | Any


class Encoder(OtherNames):
    """Sentences in any of the trained languages -> vectors. Safe to use from several threads.

    Attributes:
      languages: codes that the encoder was trained on.
      dimension: width of the vectors.
      max_length: tokens read of a sentence.
      truncated: sentences cut to `max_length` so far.
    """

    def __init__(self, bundle: Bundle, *, backend: Backend = "auto") -> None:
        self.bundle = bundle
        self.languages = bundle.languages
        self.dimension = bundle.dimension
        self.max_length = bundle.config.max_length
        self.truncated = 0
        self.tokenizer = read_tokenizer(bundle.tokenizer)
        if bundle.config.ngrams and self.tokenizer.new_lexicon() is None:
            raise UserError("the model reads n-grams of words, and its tokenizer has pieces")
        if self.tokenizer.vocab_size != bundle.vocab_size:
            raise UserError(
                f"the tokenizer has {self.tokenizer.vocab_size:,} pieces and the model's table "
                f"{bundle.vocab_size:,} rows; they are not from the same export"
            )
        self._lock = threading.Lock()
        if backend == "auto":
            backend = "jax" if _accelerated() else "numpy"
        self.backend = backend
        self._run = {"numpy": _NumpyBackend, "jax": _JaxBackend}[backend](bundle)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        checkpoint: str | int | None = None,
        adapters: Sequence[str | os.PathLike[str]] | None = None,
        backend: Backend = "auto",
    ) -> "Encoder":
        """Loads a run directory, one of its checkpoints, a `safetensors` export, or a folder of
        sentence-transformers, transformers or model2vec (`saved.sentence_transformers`).

        Args:
          path: or the name of an encoder in the package (`lightxling models` lists them), by
            default static. A folder of that name wins, and a warning says so.
          checkpoint: of a run: "best" (the default), "last" or a step.
          adapters: names of its adapters, and adapter files, that are used; by default all that it
            has.
          backend: auto takes jax if it is in use and has an accelerator, else numpy.

        Raises:
          UserError: nothing is there, or it is damaged.
        """
        bundle = load_bundle(path, checkpoint)
        return cls(with_adapters(bundle, adapters), backend=backend)

    def using(self, *adapters: str | os.PathLike[str]) -> "Encoder":
        """An encoder of the same parameters with these adapters only, by name or file; may be none.

        Raises:
          UserError: there is no such adapter, or it belongs to another encoder.
        """
        return type(self)(with_adapters(self.bundle, adapters), backend=self.backend)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of all that vectors depend on: parameters, configuration, tokenizer."""
        return self.bundle.fingerprint()

    def encode(
        self,
        sentences: str | Sequence[str],
        batch_size: int = 256,
        normalize: bool = True,
        show_progress: bool = False,
        **named: Unpack[Named],
    ) -> Vectors:
        """Vectors of sentences, in their order.

        Args:
          sentences: a string gives one vector [D]; a list gives [N, D]. They are cleaned as
            training text is (`corpus.cleaning.clean`). What is empty then gives zeros. What is
            longer than `max_length` tokens is cut off and counted.
          batch_size: sentences computed together, at most.
          normalize: scale vectors to length 1.
          show_progress: show a bar on standard error, and say when something is being compiled.
          named: arguments as sentence-transformers calls them, see `encode.names.Named`.

        Returns:
          float32, if `named` asks for nothing else; the same sentence gives the same vector up to
          rounding, whatever stands around it.

        Raises:
          NotFinite: the numbers of a sentence overflow; it is a UserError with its `row`.
        """
        check_named(self.bundle, named)
        show_progress = show_progress or bool(named.get("show_progress_bar"))
        normalize = normalize or named.get("normalize_embeddings", False)
        texts = [sentences] if isinstance(sentences, str) else sentences
        prompt = prompt_of(self.bundle, named)
        vectors, _ = self.encode_counted(texts, batch_size, normalize, show_progress, prompt)
        check_finite(vectors, "sentence")
        if isinstance(sentences, str):
            vectors = vectors[0]
        return as_named(vectors, named, normalize=normalize) if named else vectors

    def encode_counted(
        self,
        sentences: Sequence[str],
        batch_size: int = 256,
        normalize: bool = True,
        show_progress: bool = False,
        prompt: str | None = None,
    ) -> tuple[Float[np.ndarray, "N D"], Int[np.ndarray, " N"]]:
        """`encode` of a list, and how many tokens were read of each sentence.

        Vectors that are not normalised may be not finite: a server answers the other texts.

        Args:
          prompt: put before every text; None: the encoder's own, if it has one.
        """
        sentences = list(sentences)
        for i, sentence in enumerate(sentences):
            if not isinstance(sentence, str):
                raise TypeError(
                    f"sentence {i} is {type(sentence).__name__}, not a string: {sentence!r:.80}"
                )
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} should be at least 1")
        prompt = prompt_of(self.bundle, {}) if prompt is None else prompt
        vectors = np.zeros((len(sentences), self.dimension), np.float32)
        counts = np.zeros(len(sentences), np.int64)
        with Bar("encoding", len(sentences) if show_progress else 0) as bar:
            for start in range(0, len(sentences), SLAB):
                tokens = self._tokenize(sentences[start : start + SLAB], prompt)
                part = vectors[start : start + SLAB]
                counts[start : start + SLAB] = np.diff(tokens.offsets)
                for rows, found in self._run(tokens, batch_size, bar.say):
                    part[rows] = found
                    bar.advance(len(rows))
        if normalize:
            check_finite(vectors, "sentence")
            vectors = unit(vectors)
        return vectors, counts

    def similarity(
        self, a: Real[np.ndarray, "*A D"], b: Real[np.ndarray, "*B D"]
    ) -> Float[np.ndarray, "A B"]:
        """Cosines of all rows of `a` with all of `b`; a zero vector has cosine 0 to all."""
        return unit(np.atleast_2d(a)) @ unit(np.atleast_2d(b)).T

    def _tokenize(self, sentences: list[str], prompt: str = "") -> _Tokens:
        """The ids of texts, made alike to those that the encoder was trained on."""
        sentences = [text[:LINE_LIMIT] for text in sentences]
        if self.bundle.cleans:
            unescape = self.bundle.unescape
            sentences = [clean(text, unescape=unescape) for text in sentences]
        if prompt:
            sentences = [text and prompt + text for text in sentences]
        lexicon = self.tokenizer.new_lexicon()
        ids, lengths = self.tokenizer.encode(sentences, self.max_length + 1, lexicon)
        is_long = lengths > self.max_length
        if is_long.any():
            ends = np.cumsum(lengths)
            ids = np.delete(ids, ends[is_long] - 1 - self.tokenizer.tail)
            lengths = lengths - is_long
            with self._lock:
                first, self.truncated = not self.truncated, self.truncated + int(is_long.sum())
            if first:
                warnings.warn(
                    f"a sentence is longer than {self.max_length} tokens and was cut off; "
                    "Encoder.truncated counts them",
                    stacklevel=4,  # the caller of `encode`
                )
        words = None
        if lexicon is not None:
            distinct, ids = np.unique(np.append(0, ids.astype(np.int64)), return_inverse=True)
            ids, words = ids[1:], self.tokenizer.table(distinct, lexicon)
        return _Tokens(ids, np.concatenate([[0], np.cumsum(lengths)]), words)


def _accelerated() -> bool:
    """Whether jax is in use already and has something faster than a CPU."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.default_backend() != "cpu"


class _NumpyBackend:
    """Batches of about `TOKENS` tokens in which sentences of equal length are stacked."""

    def __init__(self, bundle: Bundle):
        from lightxling.model.forward import Forward

        self.forward = Forward(bundle.config, bundle.params)

    def __call__(self, tokens: _Tokens, batch_size: int, say: Callable[[str], None]) -> _Found:
        ids, offsets, words = tokens
        lengths = np.diff(offsets)
        # sorted, so that the sentences of a batch that are equally long lie side by side
        order = np.argsort(lengths, kind="stable")
        order = order[np.searchsorted(lengths[order], 1) :]  # empty ones stay zero
        start = 0
        while start < len(order):
            total = np.cumsum(lengths[order[start : start + batch_size]])
            stop = start + max(1, int(np.searchsorted(total, TOKENS, side="right")))
            rows = order[start:stop]
            cuts = np.flatnonzero(np.diff(lengths[rows])) + 1
            groups = [
                ids[offsets[same][:, None] + np.arange(lengths[same[0]])]
                for same in np.split(rows, cuts)
            ]
            yield rows, self.forward(groups, words)
            start = stop


class _JaxBackend:
    """Batches of `batch_size` sentences padded to a few lengths; each shape compiles once."""

    def __init__(self, bundle: Bundle):
        with needed_by("the backend jax"):
            import jax
            import jax.numpy as jnp

            from lightxling.model import build

        graphdef = build.structure(bundle.config, bundle.vocab_size)
        params = dequantize(bundle.params)
        projection = params.pop("projection", None)
        self.params = jax.device_put({"encoder": nest(params)})

        def encode(params, tokens, ngrams):
            vectors = build.encode_tokens(graphdef, params, tokens, ngrams)
            return vectors if projection is None else vectors @ jnp.asarray(projection)

        self.encode, self.ngrams = jax.jit(encode), bundle.config.ngrams
        longest = bundle.config.max_length
        self.lengths = np.array([n for n in LENGTHS if n < longest] + [longest])
        self.compiled: set[tuple[int, int]] = set()

    def __call__(self, tokens: _Tokens, batch_size: int, say: Callable[[str], None]) -> _Found:
        ids, offsets, words = tokens
        lengths = np.diff(offsets)
        padded = self.lengths[np.searchsorted(self.lengths, lengths)]
        # few sentences come as 1, 2, 4, ...
        batch_size = min(batch_size, 1 << (len(lengths) - 1).bit_length())
        for length in self.lengths:
            rows = np.flatnonzero((padded == length) & (lengths > 0))
            for start in range(0, len(rows), batch_size):
                batch = rows[start : start + batch_size]
                padded_ids = np.zeros((batch_size, length), np.int32)
                real = np.arange(length) < lengths[batch, None]
                places = offsets[batch, None] + np.arange(length)
                padded_ids[: len(batch)][real] = ids[places[real]]
                if padded_ids.shape not in self.compiled:
                    say(f"compiling for batches of {batch_size} x {length} tokens")
                    self.compiled.add(padded_ids.shape)
                inputs = padded_ids, None
                if words is not None:
                    ngrams = words.buckets(padded_ids, self.ngrams) if self.ngrams else None
                    inputs = words.rows[padded_ids], ngrams
                yield batch, np.asarray(self.encode(self.params, *inputs))[: len(batch)]


def encode_file(
    encoder: Encoder,
    source: str | os.PathLike[str],
    output: Path,
    *,
    batch_size: int = 256,
    normalize: bool = True,
    progress: Callable[[str], None] | None = None,
) -> int:
    """Writes one vector per line of a text file, empty lines included; returns the number of lines.

    What is not text in a line is replaced, and a warning says so: see `base.lines`.

    Example: lightxling encode runs/en-fr sentences.txt -o vectors.npy

    The input is streamed: memory does not grow with it. The output is written under a temporary
    name and renamed at the end, so an interrupted command leaves what was there before.

    Args:
      source: a text file (.gz too); `-` is standard input.
      output: .npy gets a float32 array [lines, dimension]; .f32 its numbers alone, little-endian,
        as LASER's tools and vecalign read them; .jsonl one object per line with the keys text and
        vector.
      progress: receives a line of text now and then.
    """
    output = Path(output)
    writers = {".npy": write_npy, ".f32": _write_raw, ".jsonl": _write_jsonl}
    if output.suffix not in writers:
        raise UserError(f"--output {output}: the name should end in .npy, .f32 or .jsonl")
    check_output(output)
    say = progress or (lambda text: None)
    with (
        Lines.open(source) as lines,
        atomic(output) as temporary,
        open(temporary, "wb") as file,
    ):

        def batches():
            done = 0
            for slab in slabs(lines):
                try:
                    yield slab, encoder.encode(slab, batch_size, normalize)
                except NotFinite as error:
                    raise NotFinite(
                        error.row, f"line {done + error.row + 1:,} of {source}"
                    ) from None
                done += len(slab)
                say(f"{done:,} lines")

        count = writers[output.suffix](file, batches(), encoder.dimension)
    if encoder.truncated:
        say(f"{encoder.truncated:,} lines were cut to {encoder.max_length} tokens")
    return count


def write_npy(file: io.BufferedIOBase, batches: Slabs, dimension: int, dtype: str = "<f4") -> int:
    """Writes batches of (sentences, vectors) as one array; returns the number of its rows."""

    def header(rows: int) -> bytes:  # of constant length, as the rows are not known before the end
        text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({rows}, {dimension}), }}"
        return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode() + b"\n"

    if not file.seekable():
        raise UserError(
            f"{file.name} is a pipe, and .npy files are not written in order; use .jsonl"
        )
    rows = 0
    file.write(header(rows))
    for _, vectors in batches:
        file.write(vectors.astype(dtype, copy=False).tobytes())
        rows += len(vectors)
    file.seek(0)
    file.write(header(rows))
    return rows


def _write_raw(file: io.BufferedIOBase, batches: Slabs, dimension: int) -> int:
    """Vectors one after another without a header, which readers of .npy files take for numbers."""
    rows = 0
    for _, vectors in batches:
        file.write(vectors.astype("<f4", copy=False).tobytes())
        rows += len(vectors)
    return rows


def _write_jsonl(file: io.BufferedIOBase, batches: Slabs, dimension: int) -> int:
    rows = 0
    for sentences, vectors in batches:
        for text, vector in zip(sentences, vectors, strict=True):
            row = {"text": text, "vector": [float(f"{value:.7g}") for value in vector]}
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        rows += len(sentences)
    return rows
