"""A tokenizer and a table of embeddings for one language, from those of a multilingual encoder.

A new sentencepiece model is trained on the language's text. A piece that the old model has too
keeps its embedding; any other gets the mean of the pieces that the old model cuts it into. Where
the vector of a sentence is little more than the mean of its pieces, that keeps it in its place.
Everything else stays as it is.

The other way, that of FOCUS, is a mixture of the embeddings of the shared pieces that the new one
is similar to. Similar are pieces that stand near the same others in the text: vectors of positive
pointwise mutual information, made shorter by a singular value decomposition. A piece that the text
does not hold gets the mean of its parts here too.

Sources: FOCUS (arXiv 2305.14481), section 3: copy, and sparsemax-weighted mixture; there with
fastText vectors. The vectors here: Levy and Goldberg 2014, "Neural Word Embedding as Implicit
Matrix Factorization", with the smoothed contexts of Levy et al. 2015 (TACL 3).

Letters in shapes: V pieces of the new model, U of the old one, E width of the table, A width of the
auxiliary vectors.
"""

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.files import atomic_folder
from lightxling.base.languages import is_code
from lightxling.base.lines import Problems, sound_lines
from lightxling.base.shapes import Float, Int
from lightxling.base.vectors import normalize
from lightxling.config.schema import NewPieces, TokenizerConfig
from lightxling.corpus import tokenizer as tokenizers
from lightxling.corpus.pieces import PAD, UNK, Tokenizer, read_model
from lightxling.model.params import array
from lightxling.saved.bundle import Bundle, write_bundle

WINDOW = 5  # pieces on each side
SMOOTHING = 0.75  # exponent of the frequencies of contexts
DIMENSIONS = 128
_BLOCK = 1 << 24  # cells of a matrix of similarities made at once


@dataclasses.dataclass(frozen=True)
class PieceOrigins:
    """How the pieces of a new tokenizer got their embeddings."""

    copied: int
    mixed: int
    composed: int
    """The mean of what the old tokenizer cuts them into."""

    def __str__(self) -> str:
        total = self.copied + self.mixed + self.composed
        return (
            f"{total:,} pieces: {self.copied:,} with the embedding that they had, {self.mixed:,} "
            f"mixed from similar ones, {self.composed:,} from their parts"
        )


def specialise(
    bundle: Bundle,
    sentences: Sequence[str],
    language: str,
    vocab_size: int = 0,
    new_pieces: NewPieces = "parts",
) -> tuple[Bundle, PieceOrigins]:
    """The encoder with a tokenizer and a table of its own for a language.

    Args:
      sentences: text of the language, cleaned.
      vocab_size: pieces, or as many as the text supports; 0: as many as the encoder has now.
      new_pieces: what those start as that are new to the encoder.

    Raises:
      UserError: the encoder has a vocabulary of words, or no language has that code.
    """
    if not is_code(language):
        raise UserError(f"--language {language!r} should be a code, such as de or zh_Hant")
    if vocab_size < 0:
        raise UserError(f"--vocab-size {vocab_size} should be 0 or more")
    if bundle.tokenizer.startswith(b"{"):
        raise UserError(
            "the encoder has a vocabulary of words or the tokenizer of another program, and "
            "languages get a tokenizer of pieces; start from an encoder with pieces "
            "(tokenizer.model=bpe or unigram)"
        )
    old = Tokenizer(bundle.tokenizer)
    settings = tokenizer_settings(bundle.tokenizer)
    if vocab_size:
        settings = dataclasses.replace(settings, vocab_size=vocab_size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.model"
        tokenizers.train_tokenizer(sentences, settings, path, is_limit=True)
        model = limits.read_bytes(path, limits.TOKENIZER)
    new = Tokenizer(model)
    auxiliary = None
    if new_pieces == "similar":
        ids, lengths = new.encode(sentences, bundle.config.max_length)
        auxiliary = context_vectors(ids.astype(np.int64), lengths, new.vocab_size)
    table, weights = array(bundle.params, "words"), bundle.params.get("piece_weights")
    if weights is not None:  # one more column, which goes the way of the others
        table = np.column_stack([table, weights])
    cut = functools.partial(_cut, old)
    table, report = transfer(table, old.pieces(), new.pieces(), auxiliary, cut)
    params = {name: v for name, v in bundle.params.items() if name != "words.scales"}
    if weights is not None:
        table, params["piece_weights"] = np.ascontiguousarray(table[:, :-1]), table[:, -1].copy()
    specialised = dataclasses.replace(
        bundle,
        params={**params, "words": table},
        tokenizer=model,
        languages=(language,),
        scores={},
    )
    return specialised, report


def specialise_to(
    bundle: Bundle,
    sentences: Sequence[str],
    language: str,
    vocab_size: int,
    new_pieces: NewPieces,
    output: Path,
    progress: Callable[[str], None],
) -> None:
    """Writes `specialise` as an export that a run can start from (`train.init_from`)."""
    specialised, report = specialise(bundle, sentences, language, vocab_size, new_pieces)
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(output) as folder:
        write_bundle(specialised, folder)
    progress(str(report))


def tokenizer_settings(tokenizer: bytes) -> TokenizerConfig:
    """How a sentencepiece model was trained, so that another one can be trained alike."""
    model = read_model(tokenizer)
    spec = model.trainer_spec
    return TokenizerConfig(
        model="bpe" if spec.model_type == spec.BPE else "unigram",
        vocab_size=len(model.pieces),
        lowercase=model.normalizer_spec.name.endswith("_cf"),
        character_coverage=spec.character_coverage,
        byte_fallback=spec.byte_fallback,
    )


def _cut(old: Tokenizer, pieces: Sequence[str]) -> list[np.ndarray]:
    """Cuts the text of pieces with the old tokenizer."""
    texts = [piece.replace("▁", " ").strip() for piece in pieces]
    ids, lengths = old.encode(texts, 1 << 10)
    return np.split(ids, np.cumsum(lengths)[:-1]) if texts else []


def transfer(
    table: Float[np.ndarray, "U E"],
    old_pieces: Sequence[str],
    new_pieces: Sequence[str],
    auxiliary: Float[np.ndarray, "V A"] | None,
    cut: Callable[[Sequence[str]], list[np.ndarray]],
) -> tuple[Float[np.ndarray, "V E"], PieceOrigins]:
    """The new table.

        E'_v = E_v                                      for a shared piece
        E'_v = mean_o E_o                               over the old pieces o that v is cut into, or
        E'_v = sum_o w_vo E_o,  w_v = sparsemax_o cos(a_v, a_o)     over the shared pieces o

    Args:
      auxiliary: a, vectors of the new pieces that say which are alike; zero where that is not
        known. Only shared pieces that have one take part in mixtures. None: no mixtures.
      cut: gives the old ids of pieces.
    """
    row = {piece: number for number, piece in enumerate(old_pieces)}
    words = np.zeros((len(new_pieces), table.shape[1]), np.float32)
    source = np.array([row.get(piece, -1) for piece in new_pieces])
    is_shared, mixed = source >= 0, np.empty(0, int)
    words[is_shared] = table[source[is_shared]]

    if auxiliary is not None:
        is_known, unit = np.linalg.norm(auxiliary, axis=1) > 0, normalize(auxiliary)
        donors = np.flatnonzero(is_shared & is_known)
        if len(donors):
            mixed = np.flatnonzero(~is_shared & is_known)
        size = max(1, _BLOCK // max(len(donors), 1))
        for start in range(0, len(mixed), size):
            rows = mixed[start : start + size]
            weights = sparsemax(unit[rows] @ unit[donors].T)
            words[rows] = weights.astype(np.float32) @ words[donors]

    rest = np.setdiff1d(np.flatnonzero(~is_shared), mixed)
    for number, parts in zip(rest, cut([new_pieces[i] for i in rest]), strict=True):
        known = parts[parts > UNK]
        words[number] = table[known if len(known) else [UNK]].mean(axis=0)
    words[PAD] = table[PAD]
    return words, PieceOrigins(int(is_shared.sum()), len(mixed), len(rest))


def sparsemax(z: Float[np.ndarray, "N M"]) -> Float[np.ndarray, "N M"]:
    """The point of the simplex nearest to each row, in float64; most of its cells are 0.

        p_j = max(z_j - tau, 0),  tau = (sum of the k largest z - 1) / k,
        k the largest number for which 1 + k z_(k) > the sum of the k largest

    Source: Martins and Astudillo 2016 (arXiv 1602.02068), algorithm 1.
    """
    z = np.asarray(z, np.float64)
    ordered = -np.sort(-z, axis=1)
    total = np.cumsum(ordered, axis=1)
    count = np.arange(1, z.shape[1] + 1)
    k = (1 + count * ordered > total).sum(axis=1)
    tau = (np.take_along_axis(total, k[:, None] - 1, axis=1)[:, 0] - 1) / k
    return np.maximum(z - tau[:, None], 0)


def context_vectors(
    ids: Int[np.ndarray, " T"], lengths: Int[np.ndarray, " N"], vocab_size: int
) -> Float[np.ndarray, "V A"]:
    """Vectors of pieces by what stands around them; zero for pieces that occur alone or not at all.

        M_ij = max(0, log( n_ij / n_i. * sum_k n_.k^a / n_.j^a )),  M = U S V',  vectors U sqrt(S)

    n_ij counts how often piece j stands at most `WINDOW` places from piece i in a sentence.

    Args:
      ids: of all sentences, end to end.
      lengths: of the sentences.
    """
    import scipy.sparse
    import scipy.sparse.linalg

    sentence = np.repeat(np.arange(len(lengths)), lengths)
    counts = scipy.sparse.csr_array((vocab_size, vocab_size), dtype=np.float64)
    for distance in range(1, WINDOW + 1):
        together = sentence[distance:] == sentence[:-distance]
        here, there = ids[:-distance][together], ids[distance:][together]
        ones = np.ones(len(here))
        counts += scipy.sparse.csr_array((ones, (here, there)), (vocab_size, vocab_size))
    counts = (counts + counts.T).tocoo()
    vectors = np.zeros((vocab_size, DIMENSIONS), np.float32)
    row_total = np.asarray(counts.sum(axis=1)).reshape(-1)
    used = np.flatnonzero(row_total)
    rank = min(DIMENSIONS, len(used) - 1)
    if rank < 1:
        return vectors
    context = row_total**SMOOTHING
    i, j = counts.coords
    information = np.log(counts.data / row_total[i] * context.sum() / context[j])
    keep = information > 0
    place = np.zeros(vocab_size, np.int64)
    place[used] = np.arange(len(used))
    matrix = scipy.sparse.csr_array(
        (information[keep], (place[i[keep]], place[j[keep]])), (len(used), len(used))
    )
    start = np.random.default_rng(0).normal(size=len(used))
    left, strength, _ = scipy.sparse.linalg.svds(matrix, k=rank, v0=start)
    vectors[used, :rank] = left * np.sqrt(strength)
    return vectors


def read_sentences(paths: Sequence[Path], *, unescape: bool = True) -> list[str]:
    """The distinct cleaned sentences of text files, one a line (.gz too).

    Args:
      unescape: as the encoder has it that they are for.

    Raises:
      UserError: a file cannot be read, or there are none.
    """
    from lightxling.corpus.cleaning import clean

    if not paths:
        raise UserError(
            "no text is given; lightxling specialise MODEL FILE ... --language de -o FOLDER"
        )
    sentences: dict[str, None] = {}
    problems = Problems()
    for path in paths:
        for line in sound_lines(path, problems):
            sentences[clean(line or "", unescape=unescape)] = None
    sentences.pop("", None)
    problems.warn("left out")
    if not sentences:
        raise UserError(f"{', '.join(map(str, paths))} holds no sentences")
    return list(sentences)
