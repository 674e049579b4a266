"""What a run is: frozen dataclasses that hold the only copy of every default.

A recipe is a Python file with `config = Config(...)` and only what differs from these defaults; the
command line overrides single fields (`--train.seed 1`). A run writes its resolved config to
`config.json`, and that file is read back without executing Python.

Every field has a text, whose first sentence is its line in `--help`, with its unit; what a number
may be stands in its type. Nothing here imports jax.
"""

import contextlib
import dataclasses
import difflib
import hashlib
import json
import math
import re
import runpy
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from lightxling.base.tree import flatten
from lightxling.identity import renewed


class UserError(Exception):
    """A mistake of the person at the keyboard: one message, no traceback, exit code 2."""


class Bound(NamedTuple):
    """What a number may be: stands at its field, is checked by `validate` and told by `--help`."""

    short: str
    """For the help text."""
    told: str
    """Completes "should be"."""
    holds: Callable[[float], bool]


Number = TypeVar("Number", int, float)
Positive = Annotated[Number, Bound(">0", "greater than 0", lambda x: 0 < x < math.inf)]
FromZero = Annotated[Number, Bound(">=0", "a number from 0 on", lambda x: 0 <= x < math.inf)]
BelowOne = Annotated[Number, Bound(">=0 and <1", "at least 0 and below 1", lambda x: 0 <= x < 1)]
Fraction = Annotated[Number, Bound(">0 and <1", "between 0 and 1", lambda x: 0 < x < 1)]


class Setting(NamedTuple):
    """A single setting of a run."""

    name: str
    """As it is typed, with dots: train.batch_size."""
    value: Any
    """`dataclasses.MISSING` where it has to be given."""
    kind: Any
    """Its type, without its bound."""
    bound: Bound | None
    table: type
    """The dataclass whose field it is."""

    @property
    def place(self) -> str:
        """The name without its last part."""
        return self.name.rpartition(".")[0]


def settings_of(table: Any, prefix: str = "") -> Iterator[Setting]:
    """Every setting in a dataclass of settings (or, by its defaults, in the class) and below it."""
    kind = table if isinstance(table, type) else type(table)
    for field in dataclasses.fields(kind):
        name, value = prefix + field.name, getattr(table, field.name, dataclasses.MISSING)
        if dataclasses.is_dataclass(value):
            yield from settings_of(value, f"{name}.")
        elif dataclasses.is_dataclass(next(iter(typing.get_args(field.type)), None)):
            for number, item in enumerate(value):
                yield from settings_of(item, f"{name}.{number}.")
        else:
            plain, *told = typing.get_args(field.type) if _is_bounded(field.type) else [field.type]
            yield Setting(name, value, plain, told[0] if told else None, kind)


def _is_bounded(kind: Any) -> bool:
    return typing.get_origin(kind) is Annotated and isinstance(kind.__metadata__[0], Bound)


Table = TypeVar("Table")


def change(table: Table, **changes: Any) -> Table:
    """A recipe, or a part of one, with other settings; two underscores stand for a dot.

        change(load("light"), train__pairs=51_200, model__layers=1)

    Raises:
      UserError: there is no such setting.
    """
    return _change(table, changes, "")


def _change(table: Any, changes: dict[str, Any], prefix: str) -> Any:
    values: dict[str, Any] = {}
    below: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        first, _, rest = name.partition("__")
        if rest:
            below.setdefault(first, {})[rest] = value
        else:
            values[first] = value
    known = {field.name: getattr(table, field.name) for field in dataclasses.fields(table)}
    for first in [*values, *below]:
        if first not in known or (first in below and not dataclasses.is_dataclass(known[first])):
            rest = "".join(f".{name.replace('__', '.')}" for name in below.get(first, ()))
            raise unknown_setting(prefix, first, known, rest)
    values |= {
        first: _change(values.get(first, known[first]), rest, f"{prefix}{first}.")
        for first, rest in below.items()
    }
    return dataclasses.replace(table, **values)


def unknown_setting(prefix: str, name: str, known: Iterable[str], rest: str = "") -> UserError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; perhaps you meant {prefix}{near[0]}" if near else ""
    written = repr(name)[1:-1]  # line breaks written out
    return UserError(f"unknown setting {prefix}{written}{rest}{hint}")


class Objective:
    """What the rest of the program asks of an objective; its settings say what is not as here.

    Its loss, and the head that it trains, are in `lightxling.objectives`.
    """

    weight: float
    reads = "pairs"
    """What the rows of its text are (`corpus.sources.Rows`); empty: whatever the objectives beside
    it read, and alone sentences of any one language."""
    sees_all_sentences = False
    """Whether it sees all sentences of a row, or only the first two."""
    takes_any_width = False
    """Whether it takes the leading dimensions of vectors as well as all of them (ESE)."""

    def taught_sides(self, pivot: int) -> set[int]:
        """The sides of a pair whose teacher vectors it reads; none: it has no teacher.

        Args:
          pivot: the side that the teacher knows best.
        """
        return set()


@dataclasses.dataclass(frozen=True)
class TokensConfig(Objective):
    """Generative task on the pooled vector: UGT, or its parts SMLM and XTR (ACL 2021)."""

    weight: FromZero[float] = 1.0
    """Factor of this loss; 0: left out."""
    kind: Literal["ugt", "xtr", "smlm"] = "ugt"
    """Words of the translation and a masked word, or either alone (xtr, smlm)."""
    duplicates: Literal["fill", "count", "uniform"] = "fill"
    """Mass of a repeated piece. fill: 1/n once; count: count/n; uniform: 1/distinct."""
    mlm_overwrite: bool = True
    """Replace a masked word's mass, not add to it. That is where the word stands in the other
    sentence too."""
    xtr_from: Literal["masked", "original"] = "masked"
    """What the other side rebuilds of a masked sentence."""
    mask_inputs: bool = True
    """Encode the pair with one piece masked. It is masked on one side only, which a contrastive
    term beside this one may learn to tell from the other (docs/results.md). False (kind xtr only):
    nothing is masked, and `xtr_from` and `maskable` have no effect."""
    maskable: Literal["words", "all"] = "words"
    """Pieces that masking chooses from: words, or all of them, punctuation too."""
    language_width: FromZero[int] = 0
    """Width of the embedding of the language to be predicted (EMS); 0: none. The head sees it
    beside the sentence vector."""
    decoder: Literal["tied", "untied"] = "tied"
    """Vocabulary table of the head: the encoder's embeddings, or one of its own (EMS)."""
    decoder_bias: bool = True
    """Give the vocabulary logits a bias."""
    vocab_block: FromZero[int] = 8192
    """Vocabulary rows per block of logits, to save memory; 0: all. Changes nothing else."""


@dataclasses.dataclass(frozen=True)
class MlmConfig(Objective):
    """Masked language modelling, position by position (BERT): for one language's text, from which
    the other objectives learn nothing. Its head is the token head."""

    reads = ""
    sees_all_sentences = True

    weight: FromZero[float] = 0.0
    """Factor of this loss; 0: left out."""
    share: Fraction[float] = 0.15
    """Share of a sentence's pieces that are predicted: rounded, at least one."""
    mask: FromZero[float] = 0.8
    """Share of those that the encoder sees as `<MASK>`."""
    random: FromZero[float] = 0.1
    """Share of those that it sees as any other piece; the rest stay as they are."""
    vocab_block: FromZero[int] = 8192
    """Vocabulary rows per block of logits, to save memory; 0: all. Changes nothing else."""


@dataclasses.dataclass(frozen=True)
class AlignConfig(Objective):
    """Contrastive task: a sentence finds its translation among the batch."""

    takes_any_width = True

    weight: FromZero[float] = 2.0
    """Factor of this loss; 0: left out."""
    directions: Literal["both", "forward"] = "both"
    """Who looks for its translation: both sides, or the first only (half the loss)."""
    similarity: Literal["dot", "cosine"] = "dot"
    """How two vectors are compared."""
    temperature: Positive[float] = 1.0
    """The similarities are divided by it."""
    margin: float = 0.0
    """Subtracted from the similarity of the true pair, before the temperature (additive margin
    softmax)."""
    projection: FromZero[int] = 0
    """Width of projections that are compared instead of the sentence vectors; 0: none. They are
    Linear-ReLU-Linear, and exist in training only."""


@dataclasses.dataclass(frozen=True)
class SimilarityConfig(Objective):
    """Both languages should see the same similarities within the batch (ACL 2021, section 3)."""

    takes_any_width = True

    weight: FromZero[float] = 2.0
    """Factor of this loss; 0: left out."""
    reduction: Literal["sum", "mean"] = "sum"
    """Over the cells of the similarity matrix."""
    eps: Positive[float] = 1e-5
    """Floor of 1 - |P1 - P2| inside the logarithm; bounds the gradient at about 1/eps."""


@dataclasses.dataclass(frozen=True)
class SoftConfig(Objective):
    """Soft labels: the similarities that a teacher sees within a batch become the targets for those
    across languages (IMASCL). Needs `teacher.source`, unless the labels are hard."""

    takes_any_width = True

    weight: FromZero[float] = 0.0
    """Factor of this loss; 0: left out."""
    labels: Literal["priority", "average", "left", "right", "hard"] = "priority"
    """Which sides the teacher reads. It is the one whose language comes first in
    `teacher.priority`, both (average), always the first or always the second; hard: none, a
    sentence is like its translation only."""
    loss: Literal["cross-entropy", "mse"] = "cross-entropy"
    """How similarities are compared. mse: the squared difference of the two matrices, a
    baseline."""
    targets: Literal["softmax", "raw"] = "softmax"
    """Labels are the softmax of the teacher's cosines, or the cosines as they are."""
    temperature: Positive[float] = 0.1
    """The student's cosines are divided by it."""
    teacher_temperature: FromZero[float] = 0.0
    """The teacher's cosines are divided by it; 0: the same as `temperature`."""
    cross: float = 1.0
    """Weight of the cross-lingual part (lambda); the monolingual part has weight 1."""
    tcm: bool = False
    """Add the monolingual part: similarities within each language."""
    tcm_double: bool = True
    """Count the monolingual part twice, as the released code does."""
    margin: float = 0.0
    """Subtracted from the student's cosine where the teacher's is above 0.95."""

    def taught_sides(self, pivot: int) -> set[int]:
        sides = {"priority": {pivot}, "average": {0, 1}, "left": {0}, "right": {1}, "hard": set()}
        return sides[self.labels]


@dataclasses.dataclass(frozen=True)
class RegressionConfig(Objective):
    """Both languages' vectors should equal the teacher's vector of the side whose language comes
    first in `teacher.priority` (mean squared error, as in sentence-transformers). A learned linear
    map stands between where the widths differ."""

    weight: FromZero[float] = 0.0
    """Factor of this loss; 0: left out."""

    def taught_sides(self, pivot: int) -> set[int]:
        return {pivot}


@dataclasses.dataclass(frozen=True)
class PivotConfig(Objective):
    """One language of a pair comes to the other, whose vectors the frozen encoder
    `teacher.source` gives (modular encoders). Only the former is encoded in training; the dev P@1
    is between the two encoders."""

    weight: FromZero[float] = 0.0
    """Factor of this loss; 0: left out."""
    loss: Literal["contrastive", "cosine", "cosine-squared"] = "contrastive"
    """What is minimised. contrastive: a sentence finds its pair among the batch, from a side drawn
    at random; cosine: 1 - cos of the pair; cosine-squared: its square."""
    temperature: Positive[float] = 0.05
    """contrastive: the cosines are divided by it."""

    def taught_sides(self, pivot: int) -> set[int]:
        return {pivot}


@dataclasses.dataclass(frozen=True)
class EseConfig(Objective):
    """Lower layers and leading dimensions should serve as vectors too (ESE): an encoder that is cut
    with `lightxling export --layers N --leading D` after the training."""

    weight: FromZero[float] = 0.0
    """Factor of this loss; 0: left out."""
    dimensions: Positive[int] = 128
    """Leading dimensions that are trained to stand alone; fewer than the model's width."""
    compression: FromZero[float] = 1.0
    """Weight of learn-to-compress: leading dimensions take over principal features of all. 0: they
    learn from the objectives alone, as in Matryoshka representation learning."""
    temperature: Positive[float] = 1.0
    """Of the distributions over dimensions that learn-to-compress compares."""
    published_index: bool = False
    """Count layers as the published code does. It trains the output of the embeddings and leaves
    out the last layer but one."""


@dataclasses.dataclass(frozen=True)
class RankingConfig(Objective):
    """A sentence ranks the sentences of the other side: translations, or responses to an input
    (multi-task dual encoder)."""

    sees_all_sentences = True

    weight: FromZero[float] = 0.0
    """Factor of this loss; 0: left out."""
    direction: Literal["backward", "forward", "both"] = "backward"
    """Which side looks for the other. backward: the second for the first, P(source | target) as
    published; forward: the first for the second; both: the sum."""
    head: FromZero[int] = 0
    """Width of the hidden layer of the head on the side that is looked for; 0: no head. Responses
    have one, 320 as published; translations have none."""
    similarity: Literal["dot", "cosine"] = "dot"
    """How two vectors are compared."""
    scale: Positive[float] = 1.0
    """The similarities are multiplied by it."""
    margin: float = 0.0
    """Subtracted from the similarity of the true pair, before the scale."""
    exclude_positive: bool = False
    """Leave the true pair out of the denominator, as the paper prints it."""
    negatives: FromZero[int] = 0
    """Hard negatives of each sentence: similar but wrong ones, found with `mined_by`."""
    mined_by: str = ""
    """A run or export of lightxling, whose nearest neighbours become the hard negatives."""
    mined_among: FromZero[int] = 65_536
    """Sentences, drawn at random, that hard negatives are looked for among; 0: all. The time of the
    search is proportional to it."""
    shared_negatives: bool = False
    """Let every sentence compete with the hard negatives of the whole batch, not only its own."""


@dataclasses.dataclass(frozen=True)
class QuickThoughtConfig(Objective):
    """A sentence of running text ranks the sentences before and after it (multi-task dual
    encoder)."""

    reads = "text"
    sees_all_sentences = True

    weight: FromZero[float] = 0.0
    """Factor of this loss; 0: left out."""
    hidden: Positive[int] = 320
    """Width of the hidden layers of its three heads."""


@dataclasses.dataclass(frozen=True)
class InferenceConfig(Objective):
    """Entailment, neutral or contradiction, from both vectors, their difference and their product
    (multi-task dual encoder)."""

    reads = "labels"

    weight: FromZero[float] = 0.0
    """Factor of this loss; 0: left out."""
    hidden: Positive[int] = 512
    """Width of the layer before the softmax."""


@dataclasses.dataclass(frozen=True)
class StsConfig(Objective):
    """The cosine of two sentences should be their similarity score (mean squared error, as in
    sentence-transformers)."""

    reads = "scores"

    weight: FromZero[float] = 0.0
    """Factor of this loss; 0: left out."""
    highest: Positive[float] = 5.0
    """The score of two sentences that mean the same; 0 is the lowest."""


@dataclasses.dataclass(frozen=True)
class ObjectivesConfig:
    """The loss is the weighted sum; weight 0 leaves a term (and its head) out."""

    tokens: TokensConfig = TokensConfig()
    mlm: MlmConfig = MlmConfig()
    align: AlignConfig = AlignConfig()
    similarity: SimilarityConfig = SimilarityConfig()
    soft: SoftConfig = SoftConfig()
    regression: RegressionConfig = RegressionConfig()
    pivot: PivotConfig = PivotConfig()
    ese: EseConfig = EseConfig()
    ranking: RankingConfig = RankingConfig()
    quick_thought: QuickThoughtConfig = QuickThoughtConfig()
    inference: InferenceConfig = InferenceConfig()
    sts: StsConfig = StsConfig()

    def active(self) -> dict[str, Objective]:
        """Name -> settings of the objectives that count."""
        terms = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: term for name, term in terms.items() if term.weight}

    @property
    def taught(self) -> list[str]:
        """Names of those that need a teacher."""
        return [n for n, term in self.active().items() if term.taught_sides(0)]


def only(**terms: Any) -> ObjectivesConfig:
    """These objectives and no other, as in `only(inference=InferenceConfig(weight=1.0))`."""
    none = {
        "tokens": TokensConfig(weight=0.0),
        "align": AlignConfig(weight=0.0),
        "similarity": SimilarityConfig(weight=0.0),
    }
    return ObjectivesConfig(**(none | terms))


NOTHING = only()


NewPieces = Literal["parts", "similar"]
"""What pieces start as that an encoder does not have (`lightxling.specialise`)."""


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """Where the sentence pairs come from and which of them are kept."""

    sources: tuple[str, ...] = ()
    """Parallel text, `en-fr=PATH` each. A path is a TSV (.gz too) or TMX file or a glob of them, a
    Moses stem (`corpus` for corpus.en and corpus.fr) or `tfds:para_crawl/enfr`. `en-fr@2=PATH`
    draws each of its pairs twice an epoch. For objectives.mlm alone, `fr=PATH` is text of one
    language, a sentence a line."""
    dev: tuple[str, ...] = ()
    """Development pairs, written as the sources. Without any, they are split off from the sources
    by content hash."""
    dev_share: BelowOne[float] = 0.01
    """Share of the source pairs held out where no `dev` is given."""
    dev_limit: Positive[int] = 2000
    """Development pairs kept per language pair: the candidates of the dev P@1."""
    unescape: bool = True
    """Turn HTML entities (`&quot;`) into characters."""
    max_chars: int = 400
    """Longest side kept, in characters."""
    max_ratio: float = 4.0
    """Longest side over shortest side, in characters. Sides under 20 characters count as 20."""
    deduplicate: bool = True
    """Keep the first of pairs that are equal up to case, punctuation and spaces."""
    store: str = "stores"
    """Folder of prepared corpora, one subfolder per corpus and tokenizer."""


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """The sentencepiece model, or the vocabulary of words, trained on all languages together."""

    model: Literal["bpe", "unigram", "words"] = "bpe"
    """Kind of sentencepiece model, or whole words. The latter are those of the multi-task dual
    encoder, for languages with spaces between them."""
    vocab_size: Positive[int] = 50_000
    """Pieces or words, with `<pad>` 0, `<unk>` 1 and `<MASK>` 2."""
    hash_buckets: Positive[int] = 10_000
    """words: rows that unknown words share by their hashes. They come after the vocabulary."""
    lowercase: bool = True
    """Fold case. This is done inside the sentencepiece model (`nmt_nfkc_cf`), with the file."""
    character_coverage: float = 0.9995
    """Share of the text's characters that get a piece, 0.98 to 1. The rest is `<unk>`."""
    byte_fallback: bool = False
    """Spell unknown characters as bytes instead of `<unk>`."""
    sample: Positive[int] = 1_000_000
    """Sentences (not pairs) that it is trained on. They are drawn uniformly, by content hash."""
    sampling: FromZero[float] = 1.0
    """A language's sentences to this power are its share. 0: all have the same."""
    file: str = ""
    """An existing sentencepiece model to use instead of training one."""


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """A small addition to a trained encoder that starts as nothing and can be switched off."""

    name: str = ""
    """Lower-case; also its place among the parameters: encoder.adapters.NAME."""
    kind: Literal["parallel", "lora"] = "parallel"
    """A bottleneck beside the feed-forward layer, or low-rank changes of single projections. The
    latter can be merged into them."""
    reduction: Positive[int] = 2
    """parallel: the bottleneck is the model's width divided by this."""
    scale: Positive[float] = 4.0
    """parallel: its output is multiplied by this."""
    rank: Positive[int] = 16
    """lora: width of the low-rank change."""
    alpha: Positive[float] = 32.0
    """lora: its output is multiplied by alpha / rank."""
    targets: tuple[Literal["q", "k", "v", "out", "up", "down"], ...] = ("q", "v")
    """lora: the projections that it changes. They are those of the attention (q, k, v, out) and of
    the feed-forward layer (up, down)."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The shared transformer encoder (recipes: ACL 2021) and its token head."""

    layers: FromZero[int] = 2
    """Transformer layers. 0: a bag of vectors, the mean of the normalised embeddings."""
    width: Positive[int] = 512
    """Width of the sentence vector; a multiple of `heads`."""
    heads: Positive[int] = 8
    """Attention heads of each layer."""
    feedforward: Positive[int] = 1024
    """Width inside the feed-forward layers."""
    embedding_width: FromZero[int] = 0
    """Width of a factorised embedding table, below `width`; 0: that of the model."""
    ngrams: FromZero[int] = 0
    """Buckets for the character 3- and 4-grams of words; 0: none. Their vectors go through a tanh
    layer and are added to the word's (multi-task dual encoder); needs tokenizer.model=words."""
    max_length: Positive[int] = 200
    """Tokens kept of a sentence, at most 512. The rest is cut off."""
    activation: Literal["swish", "relu"] = "swish"
    """Of the feed-forward layers."""
    positions: bool = True
    """Add absolute positions."""
    sinusoidal: bool = False
    """Positions are fixed sines and cosines ("Attention Is All You Need") instead of learned."""
    pooling: Literal["mean", "max", "sum"] = "mean"
    """How the vectors of the tokens become that of the sentence."""
    dropout: BelowOne[float] = 0.1
    """Share of hidden numbers dropped in training, at most 0.99."""
    init: Literal["reference", "scaled"] = "reference"
    """How it starts. reference: as in PyTorch, with embeddings N(0, 1); scaled: with embeddings
    N(0, 0.02)."""
    identical_layers: bool = True
    """Start all layers with the same weights. So do the reference's deep copies."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the transformer's matrix products. Sentence vectors, losses and norms are
    float32."""
    adapters: tuple[AdapterConfig, ...] = ()
    """Set in a recipe; the command line can change what stands there (model.adapters.0.rank)."""


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """A further task of a run: text and objectives of its own, and heads of its own, on the shared
    encoder. Everything else (cleaning, tokenizer, lengths, sampling) is that of the run."""

    name: str = ""
    """Prefix of its terms in metrics.jsonl, as in `nli/loss`."""
    share: Positive[float] = 1.0
    """Share of the steps, relative to `train.share` of the main task and to the other tasks."""
    sources: tuple[str, ...] = ()
    """Text, written as `corpus.sources`; none: the task is left out. quick_thought takes running
    text with one language, `en=books/*.txt`, and mlm alone sentences; inference takes
    `label<TAB>sentence<TAB>sentence` and sts `score<TAB>sentence<TAB>sentence`, both written
    `en-en=FILE`."""
    batch_size: FromZero[int] = 0
    """Rows of its batches; 0: `train.batch_size`."""
    objectives: ObjectivesConfig = NOTHING


@dataclasses.dataclass(frozen=True)
class TeacherConfig:
    """A frozen encoder whose vectors of the training sentences are computed once and kept beside
    the token store."""

    source: str = ""
    """A folder of sentence-transformers, a run or export of lightxling, or a matrix `.npy`. The
    first needs the extra `sentence-transformers`; the last holds vectors."""
    text: str = ""
    """With a matrix: the sentences of its rows, one a line (.gz too)."""
    prefix: str = ""
    """Put before every sentence; the models called e5 expect "query: "."""
    priority: tuple[str, ...] = ("en",)
    """Languages, the one that the teacher knows best first."""


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Update rule and learning rate over time."""

    name: Literal["amsgrad", "adamw", "lion", "sgd", "adafactor"] = "amsgrad"
    """Update rule. amsgrad follows PyTorch's (maximum of the uncorrected second moment). Bytes of
    state per parameter: amsgrad 12, adamw 8, lion and sgd 4 (sgd without momentum 0), adafactor
    almost 0."""
    learning_rate: Positive[float] = 1e-3
    """Its peak, which the warm-up reaches."""
    beta1: BelowOne[float] = 0.9
    """Momentum; adafactor has none."""
    beta2: BelowOne[float] = 0.999
    """Decay of the second moment; sgd and adafactor have none. For lion it is that of the momentum,
    where its paper has 0.99."""
    eps: FromZero[float] = 1e-8
    """Added to the root of the second moment: amsgrad and adamw."""
    l2: FromZero[float] = 1e-5
    """Times the parameter, added to the gradient. That is before the moments."""
    weight_decay: FromZero[float] = 0.0
    """Decoupled, whatever the rule; matrices only."""
    clip: FromZero[float] = 0.0
    """Largest global gradient norm; 0: no clipping."""
    embedding_gradient: Positive[float] = 1.0
    """Factor of the gradient of the embedding tables, before anything else happens to it."""
    warmup_steps: FromZero[int] = 1999
    """Steps in which the learning rate grows to its peak."""
    schedule: Literal["step", "cosine", "linear", "constant"] = "step"
    """After the warm-up. step: times `decay_factor` from epoch `decay_epoch` on; cosine, linear: to
    0 at the last step."""
    decay_epoch: int = 3
    """step: epoch from which the learning rate is lower, counted from 0."""
    decay_factor: FromZero[float] = 0.1
    """step: what the learning rate is multiplied by from then on."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long, in which batches, and what is written when."""

    epochs: FromZero[float] = 12.0
    """Passes over the training pairs. With `tasks`, they are those of the main task."""
    pairs: FromZero[int] = 0
    """Pairs of the main task to train on, instead of `epochs`."""
    batch_size: Positive[int] = 128
    """Pairs of the global batch, over all devices; at least 2."""
    micro_batch: int = 0
    """Pairs encoded at once, a divisor of the batch; 0: all. It saves memory and costs a third
    more time. The loss is still that of the whole batch; dropout is drawn differently."""
    buckets: tuple[int, ...] = (8, 12, 16, 24, 32, 48, 64, 96, 128, 200)
    """Padded lengths of batches, in tokens; `model.max_length` is one too. Batches hold sentences
    of one bucket."""
    sampling_temperature: Positive[float] = 1.0
    """T: a language pair of n training pairs is drawn in proportion to n^(1/T). The weights of its
    sources multiply that. 1: the corpus as it is; 5: small languages far more often than they
    occur. The length of an epoch does not depend on it."""
    batch_languages: Literal["mixed", "single"] = "mixed"
    """Language pairs in a batch: any, or a single one. With one, all negatives are in its
    languages."""
    pad_last: Literal["drop", "duplicate"] = "drop"
    """What becomes of an epoch's last rows, which do not fill a batch. With `single`, they are
    those of a language pair. They sit it out, or random other ones are drawn once more to fill it
    (as IMASCL's code does; a sentence may then be its own negative)."""
    share: Positive[float] = 1.0
    """Share of the steps of the main task, relative to the shares of `tasks`."""
    task_order: Literal["cycle", "sampled"] = "cycle"
    """Tasks take turns as evenly as their shares allow, or are drawn in proportion to them."""
    init_from: str = ""
    """Folder of a run or of a safetensors export to start from. Its encoder, its tokenizer and
    those of its heads that fit are taken. Languages may differ, and adapters may be added."""
    trainable: tuple[str, ...] = ()
    """Parameters that learn, such as encoder.words or encoder.adapters.align; none named: all. A *
    stands for anything; the rest stays as it is, bit for bit."""
    seed: FromZero[int] = 0
    """Of initialisation, order of the data, masks and dropout."""
    skip_nonfinite: FromZero[int] = 0
    """Steps with a non-finite gradient that are left out before the run stops; 0: none. The count
    starts again when the run is resumed."""
    profile_steps: FromZero[int] = 0
    """Steps, after the first few, of which a trace is written to WORKDIR/profile; 0: none. It is
    for TensorBoard or Perfetto."""
    log_every: Positive[int] = 20
    """Steps between lines of metrics.jsonl."""
    dev_every: Positive[int] = 250
    """Steps between measurements of dev P@1."""
    checkpoint_every: Positive[int] = 500
    """Steps between checkpoints. One is also written at the end, at SIGTERM and at Ctrl-C."""
    keep: Positive[int] = 2
    """Checkpoints kept beside the best."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices as data x model: the batch is split over data, vocabulary rows over model."""

    data: FromZero[int] = 0
    """Devices over which the batch is split; 0: all that are left by `model`."""
    model: Positive[int] = 1
    """Devices over which the rows of the vocabulary are split."""


@dataclasses.dataclass(frozen=True)
class Config:
    """One run."""

    name: str = ""
    """Recipe name, from the file it was loaded from."""
    corpus: CorpusConfig = CorpusConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    objectives: ObjectivesConfig = ObjectivesConfig()
    teacher: TeacherConfig = TeacherConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    mesh: MeshConfig = MeshConfig()
    tasks: tuple[TaskConfig, ...] = ()
    """Further tasks beside the main one, which is `corpus` with `objectives`; given by recipes, as
    in `configs/dual-encoder.py`."""


MAX_TOKENS = 512
"""Kept of a sentence in a token store; `model.max_length` may cut it further."""


MAIN = "main"
"""Name of the task that `corpus` and `objectives` describe."""


def tasks_of(config: Config) -> dict[str, Config]:
    """Every task of a run as a run of its own, the main one first; those without text are left out.

    A task has its sources, objectives, batch size and share, and the rest from the run; only the
    main one has development pairs.
    """
    tasks = {MAIN: dataclasses.replace(config, tasks=())}
    return tasks | {task.name: task_alone(config, task) for task in config.tasks if task.sources}


def task_alone(config: Config, task: TaskConfig) -> Config:
    """One further task as a run of its own."""
    micro_batch, size = config.train.micro_batch, task.batch_size or config.train.batch_size
    return change(
        config,
        tasks=(),
        corpus__sources=task.sources,
        corpus__dev=(),
        corpus__dev_share=0.0,
        objectives=task.objectives,
        train__share=task.share,
        train__batch_size=size,
        train__micro_batch=micro_batch if micro_batch < size else 0,
    )


@contextlib.contextmanager
def naming(task: str) -> Iterator[None]:
    """Puts the name of a further task before what is wrong with it."""
    try:
        yield
    except UserError as error:
        if task == MAIN:
            raise
        raise UserError(f"task {task}: {error}") from None


def rows_of(objectives: ObjectivesConfig) -> str:
    """What the rows are that the objectives read, see `corpus.sources.Rows`.

    Raises:
      UserError: they do not read the same.
    """
    terms = objectives.active()
    kinds = {name: term.reads for name, term in terms.items() if term.reads}
    if len(set(kinds.values())) > 1:
        odd = next(name for name in kinds if kinds[name] != "pairs")
        other = next(name for name in kinds if kinds[name] != kinds[odd])
        raise UserError(
            f"objectives.{odd} and objectives.{other} read different data; give one of them a task "
            "of its own in `tasks`"
        )
    return next(iter(kinds.values()), "sentences" if terms else "pairs")


def recipes() -> dict[str, Path]:
    """Shipped recipes by name."""
    package = Path(__file__).parent
    folders = [package / "configs", package.parent / "configs"]  # wheel, checkout
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.py"))}


def load(name: str) -> Config:
    """A recipe by name, or a Python file that holds `config = Config(...)`.

    Raises:
      UserError: no such recipe or file, or it holds no Config.
    """
    path = Path(name)
    if path.suffix != ".py":
        known = recipes()
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; perhaps you meant {near[0]}" if near else ""
            raise UserError(
                f"no recipe {name!r}{hint}. Shipped recipes: {', '.join(sorted(known))}; "
                "a recipe of your own is given by its path, with .py at the end"
            )
        path = known[name]
    if not path.is_file():
        raise UserError(f"no config file {path}")
    try:
        config = runpy.run_path(str(path)).get("config")
    except Exception as error:
        raise UserError(f"{path} could not be run: {type(error).__name__}: {error}") from error
    if not isinstance(config, Config):
        raise UserError(f"{path} must hold `config = Config(...)`")
    return dataclasses.replace(config, name=path.stem)


def to_dict(config) -> dict:
    """Nested plain values, as written to config.json."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(kind, values: Any, path: str = ""):
    """A config dataclass from plain values; every key must be known and every value of its type.

    Raises:
      UserError: names the key.
    """
    if not isinstance(values, dict):
        raise UserError(
            f"{path.rstrip('.') or 'config'} should be a table of settings, got {values!r}"
        )
    values = renewed(kind, values)
    types = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        if key not in known:
            raise unknown_setting(path, str(key), known)
    return kind(**{key: _typed(types[key], value, path + key) for key, value in values.items()})


def _typed(kind, value, path: str):
    if dataclasses.is_dataclass(kind):
        return from_dict(kind, value, path + ".")
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{path}={value!r} should be a list")
        kind = typing.get_args(kind)[0]
        if dataclasses.is_dataclass(kind):
            return tuple(_typed(kind, item, f"{path}.{i}") for i, item in enumerate(value))
        return tuple(_typed(kind, item, path) for item in value)
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise UserError(f"{path}={value!r} should be one of {typing.get_args(kind)}")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{path}={value!r} should be of type {kind.__name__}")
    return value


HARMLESS = {
    "name",
    "corpus.store",
    "teacher.source",  # the vectors themselves are compared
    "teacher.text",
    "objectives.tokens.vocab_block",
    "objectives.mlm.vocab_block",
    "train.skip_nonfinite",
    "train.profile_steps",
    "train.log_every",
    "train.dev_every",
    "train.checkpoint_every",
    "train.keep",
    "mesh.data",
    "mesh.model",
}
"""Settings that may change when a run is resumed: they do not touch the mathematics."""


def differences(old: Config, new: Config) -> dict[str, tuple]:
    """Settings that differ and would change the mathematics of a resumed run: name -> (old, new).

    The length of a run counts only where the schedule depends on it, and micro-batches only with
    dropout.
    """
    harmless = set(HARMLESS)
    if new.optimizer.schedule in ("step", "constant"):
        harmless |= {"train.pairs", "train.epochs"}
    if not new.model.dropout:  # otherwise other dropout is drawn
        harmless.add("train.micro_batch")
    before, after = flatten(to_dict(old)), flatten(to_dict(new))
    changed = {
        key: (before.get(key), after.get(key))
        for key in {**after, **before}
        if re.sub(r"^tasks\.\d+\.(?=objectives)", "", key) not in harmless
        and before.get(key) != after.get(key)
    }
    both = min(len(old.tasks), len(new.tasks))  # of further tasks, the name tells enough
    return {
        key: values
        for key, values in changed.items()
        if not (match := re.match(r"tasks\.(\d+)\.(.+)", key))
        or int(match[1]) < both
        or match[2] == "name"
    }


def fingerprint(values) -> str:
    """Hex digest of plain values, the same for equal ones."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
