"""Less of an encoder: a vocabulary of fewer pieces, vectors of fewer dimensions, fewer layers."""

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.lines import Problems, slabs
from lightxling.base.shapes import Bool, Int
from lightxling.corpus import foreign_pieces
from lightxling.corpus.cleaning import clean
from lightxling.corpus.pieces import read_model
from lightxling.corpus.readers import read_source
from lightxling.corpus.sources import Source
from lightxling.corpus.tokenizer import read_tokenizer
from lightxling.encode.encoder import Encoder
from lightxling.model.params import array
from lightxling.saved.bundle import Bundle

Sentence = tuple[str, str]
"""A language code, or what else says which sentences belong together, and a sentence."""

_NORMAL = 1  # type of a piece; the others are special and always kept
_SAMPLE = 20_000  # sentences that the principal components are fitted on


def trim_vocabulary(
    bundle: Bundle, text: Iterable[Sentence], *, min_count: int = 1, pieces: int | None = None
) -> Bundle:
    """Keeps the pieces that a text uses; sentences that use no other are encoded as before.

    Single characters that the text holds are always kept, and so is what a kept BPE piece is merged
    from.

    Args:
      min_count: times a piece must occur.
      pieces: largest vocabulary. Those pieces are kept that are the largest share of all pieces in
        some language, so that a small language keeps its own beside a large one.
    """
    vocabulary = _Vocabulary.of(bundle.tokenizer)
    names, scores = vocabulary.names, vocabulary.scores
    if bundle.cleans:
        text = ((code, clean(sentence, unescape=bundle.unescape)) for code, sentence in text)
    _, by_language = count_pieces(bundle.tokenizer, text, len(names))
    counts = by_language.sum(axis=0)
    shares = (by_language / by_language.sum(axis=1, keepdims=True)).max(axis=0)
    kept = {name for name in names if name not in scores}
    letters = {char for i in np.flatnonzero(counts) for char in names[i]}
    kept |= {name for name in scores if name.removeprefix("##") in letters} | {"▁"} & scores.keys()
    room = (len(names) if pieces is None else pieces) - len(kept)
    if room < 0:
        raise UserError(
            f"--pieces {pieces} does not hold the {len(kept)} pieces that are always kept (special "
            f"ones, bytes, and the characters of the text); give at least {len(kept)}"
        )
    for i in np.argsort(-shares, kind="stable"):
        if counts[i] < max(min_count, 1):
            continue
        wanted = {names[i]}
        if vocabulary.is_bpe and names[i] in scores:
            wanted |= merged_from(names[i], scores)
        wanted -= kept
        if len(wanted) <= room:
            kept |= wanted
            room -= len(wanted)

    return _with_pieces(bundle, vocabulary, kept)


def keep_pieces(bundle: Bundle, used: Bool[np.ndarray, " V"]) -> Bundle:
    """Keeps the pieces that are in use, and what is kept with them in `trim_vocabulary`."""
    vocabulary = _Vocabulary.of(bundle.tokenizer)
    names, scores = vocabulary.names, vocabulary.scores
    wanted = {names[i] for i in np.flatnonzero(used)}
    letters = {char for name in wanted for char in name}
    kept = {name for name in names if name not in scores} | wanted | {"▁"} & scores.keys()
    kept |= {name for name in scores if name.removeprefix("##") in letters}
    if vocabulary.is_bpe:
        kept = kept.union(*(merged_from(name, scores) for name in wanted & scores.keys()))
    return _with_pieces(bundle, vocabulary, kept)


def _with_pieces(bundle: Bundle, vocabulary: "_Vocabulary", kept: set[str]) -> Bundle:
    rows = np.array([i for i, name in enumerate(vocabulary.names) if name in kept])
    params = dict(bundle.params)
    for name in ("words", "words.scales", "piece_weights"):
        if name in params:
            params[name] = params[name][rows]
    return dataclasses.replace(bundle, params=params, tokenizer=vocabulary.keep(rows.tolist()))


@dataclasses.dataclass(frozen=True)
class _Vocabulary:
    """The pieces of a tokenizer of either kind.

    Attributes:
      scores: of those that may go; BPE merges the highest first.
      keep: the tokenizer with the pieces of some ids only, in their order.
    """

    names: list[str]
    scores: dict[str, float]
    is_bpe: bool
    keep: Callable[[list[int]], bytes]

    @classmethod
    def of(cls, tokenizer: bytes) -> "_Vocabulary":
        if foreign_pieces.is_foreign(tokenizer):
            return cls._of_json(json.loads(tokenizer))
        model = read_model(tokenizer)

        def keep(rows: list[int]) -> bytes:
            kept = [model.pieces[i] for i in rows]
            del model.pieces[:]
            model.pieces.extend(kept)
            model.trainer_spec.vocab_size = len(rows)
            return model.SerializeToString()

        scores = {p.piece: p.score for p in model.pieces if p.type == _NORMAL}
        is_bpe = model.trainer_spec.model_type == 2
        return cls([piece.piece for piece in model.pieces], scores, is_bpe, keep)

    @classmethod
    def _of_json(cls, content: dict) -> "_Vocabulary":
        by_id = foreign_pieces.names_of(content)
        names = [by_id[i] for i in range(len(by_id))]
        always, is_bpe = foreign_pieces.always_kept(content), content["model"]["type"] == "BPE"
        ranks: dict[str, float] = {}
        for rank, pair in enumerate(content["model"].get("merges", [])):
            ranks.setdefault(foreign_pieces.merged(content, *pair), -float(rank))
        # BPE is made of its characters, which may be bytes
        free = [n for i, n in enumerate(names) if i not in always and (not is_bpe or n in ranks)]

        def keep(rows: list[int]) -> bytes:
            return foreign_pieces.dumped(foreign_pieces.renumbered(content, rows))

        return cls(names, {name: ranks.get(name, 0.0) for name in free}, is_bpe, keep)


def count_pieces(
    tokenizer: bytes, text: Iterable[Sentence], size: int
) -> tuple[list[str], Int[np.ndarray, "L V"]]:
    """Languages of a text that have a piece at all, and how often each piece occurs in them."""
    encode = read_tokenizer(tokenizer).encode
    rows: dict[str, int] = {}
    counts = np.zeros((0, size), np.int64)
    for slab in slabs(text):
        languages = [rows.setdefault(code, len(rows)) for code, _ in slab]
        ids, lengths = encode([sentence for _, sentence in slab], 1 << 20)
        places = np.repeat(languages, lengths) * size + ids
        found = np.bincount(places, minlength=len(rows) * size).reshape(-1, size)
        found[: len(counts)] += counts
        counts = found
    has_some = counts.any(axis=1)
    if not has_some.any():
        raise UserError("the text that the vocabulary is trimmed to is empty")
    return [code for code, row in rows.items() if has_some[row]], counts[has_some]


def merged_from(piece: str, scores: Mapping[str, float]) -> set[str]:
    """The pieces that BPE passes through on its way from characters to `piece`."""
    parts, seen = list(piece), set(piece) & scores.keys()
    while len(parts) > 1:
        pairs = [
            (-scores[a + b], i)
            for i, (a, b) in enumerate(itertools.pairwise(parts))
            if a + b in scores
        ]
        if not pairs:
            break
        _, i = min(pairs)
        parts[i : i + 2] = ["".join(parts[i : i + 2])]
        seen.add(parts[i])
    return seen


def reduce_dimensions(bundle: Bundle, sentences: Iterable[str], dimension: int) -> Bundle:
    """Projects vectors on the directions in which those of a text differ most from zero.

        P = the first eigenvectors of sum_i u_i u_i^T,    u_i unit vectors of distinct sentences

    Nothing is subtracted, so an empty sentence stays zero and cosines change least.
    """
    _check_shorter(bundle, "dimensions", dimension)
    sample = list(dict.fromkeys(sentences))
    if len(sample) > _SAMPLE:
        chosen = np.random.default_rng(0).choice(len(sample), _SAMPLE, replace=False)
        sample = [sample[i] for i in chosen]
    if len(sample) < dimension:
        raise UserError(
            f"{len(sample)} different sentences are too few for {dimension} dimensions; add text"
        )
    vectors = Encoder(bundle, backend="numpy").encode(sample)
    _, directions = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
    projection = np.ascontiguousarray(directions[:, ::-1][:, :dimension].astype(np.float32))
    if "projection" in bundle.params:
        projection = array(bundle.params, "projection") @ projection
    params = {name: bundle.params[name] for name in bundle.params if name != "projection.scales"}
    return dataclasses.replace(bundle, params={**params, "projection": projection}, leading=True)


def thin_out(bundle: Bundle, layers: int) -> Bundle:
    """Keeps layers evenly spaced from the first to the last, as students of DistilBERT's kind
    start; it has to be trained on before it is of use."""
    config = bundle.config
    if not 1 <= layers <= config.layers:
        raise UserError(f"--spread {layers} should be from 1 to the encoder's {config.layers}")
    kept = np.rint(np.linspace(0, config.layers - 1, layers)).astype(int) if layers > 1 else [0]
    place = {f"blocks.{old}.": f"blocks.{new}." for new, old in enumerate(kept)}
    params = {}
    for name, values in bundle.params.items():
        block = re.search(r"blocks\.\d+\.", name)
        if block is None:
            params[name] = values
        elif block[0] in place:
            params[name.replace(block[0], place[block[0]])] = values
    return dataclasses.replace(
        bundle, config=dataclasses.replace(config, layers=layers), params=params
    )


def shorten(bundle: Bundle, *, layers: int | None = None, leading: int | None = None) -> Bundle:
    """Keeps the first layers of an encoder and the first numbers of its vectors.

    Args:
      layers: 0 keeps the embeddings only.
      leading: dimensions of the shorter vectors.
    """
    config, params = bundle.config, dict(bundle.params)
    if layers is not None:
        if not 0 <= layers <= config.layers:
            raise UserError(f"--layers {layers} should be from 0 to the encoder's {config.layers}")
        dropped = "|".join(str(i) for i in range(layers, config.layers))
        is_dropped = re.compile(rf"(adapters\.[^.]+\.)?blocks\.({dropped})\.")
        params = {name: values for name, values in params.items() if not is_dropped.match(name)}
        adapters = config.adapters if layers else ()
        config = dataclasses.replace(config, layers=layers, adapters=adapters)
    if leading is not None:
        _check_shorter(bundle, "leading", leading)
        projection = array(params, "projection") if "projection" in params else np.eye(config.width)
        params.pop("projection.scales", None)
        params["projection"] = np.ascontiguousarray(projection[:, :leading], np.float32)
    return dataclasses.replace(bundle, config=config, params=params)


def _check_shorter(bundle: Bundle, option: str, value: int) -> None:
    if not 1 <= value < bundle.dimension:
        raise UserError(
            f"--{option} {value} should be at least 1 and below {bundle.dimension}, what the "
            "encoder has"
        )


def corpus_sentences(sources: Iterable[str], languages: Iterable[str] = ()) -> Iterator[Sentence]:
    """All sentences of corpora written as `en-fr=PATH`, or those in some languages only."""
    wanted, found, problems = set(languages), set(), Problems()
    for text in sources:
        source = Source.parse(text, "sentences")
        found |= set(source.languages)
        sides = [i for i, code in enumerate(source.languages) if not wanted or code in wanted]
        if sides:
            for row in read_source(source, problems):
                yield from ((source.languages[i], row[i]) for i in sides)
    problems.warn("left out")
    if wanted - found:
        raise UserError(
            f"there is no text in {', '.join(sorted(wanted - found))} to choose a vocabulary by; "
            "name some with --text FILE"
        )
