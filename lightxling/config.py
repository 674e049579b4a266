"""What a run is: frozen dataclasses that hold the only copy of every default.

A recipe is a Python file with `config = Config(...)` and only what differs from these defaults; the
command line overrides single fields (`--train.seed 1`). A run writes its resolved config to
`config.json`, and that file is read back without executing Python.

Units are in the comments. Nothing here imports jax.
"""

import dataclasses
import difflib
import hashlib
import json
import re
import runpy
import typing
from pathlib import Path
from typing import Any, Literal


class UserError(Exception):
    """A mistake of the person at the keyboard: one message, no traceback, exit code 2."""


NewPieces = Literal["parts", "similar"]
"""What pieces that an encoder lacks start as (`lightxling.specialise`)."""


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """Where the sentence pairs come from and which of them are kept."""

    sources: tuple[str, ...] = ()
    """`en-fr=PATH` each: a TSV (.gz too) or TMX file or a glob of them, a Moses stem (`corpus` for
    corpus.en and corpus.fr) or `tfds:para_crawl/enfr`. `en-fr@2=PATH` draws each of its pairs twice
    an epoch. For objectives.mlm alone, `fr=PATH` is text of one language, a sentence a line."""
    dev: tuple[str, ...] = ()
    """Development pairs, written as `sources`; empty: split off from the sources by content
    hash."""
    dev_share: float = 0.01
    """Share of the source pairs held out when `dev` is empty."""
    dev_limit: int = 2000
    """Development pairs kept per language pair: the candidates of the dev P@1."""
    unescape: bool = True
    """Turn HTML entities (`&quot;`) into characters."""
    max_chars: int = 400
    """Longest side kept, in characters."""
    max_ratio: float = 4.0
    """Longest side over shortest side, in characters; sides under 20 characters count as 20."""
    deduplicate: bool = True
    """Keep the first of pairs that are equal up to case, punctuation and spaces."""
    store: str = "stores"
    """Folder in which prepared corpora are kept, one subfolder per corpus and tokenizer."""


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """The sentencepiece model, or the vocabulary of words, trained on all languages together."""

    model: Literal["bpe", "unigram", "words"] = "bpe"
    """words: whole words (multi-task dual encoder), for languages with spaces between them."""
    vocab_size: int = 50_000
    """Pieces or words, the three special ones (<pad> 0, <unk> 1, <MASK> 2) included."""
    hash_buckets: int = 10_000
    """words: further rows of the embedding table, which unknown words share by their hashes."""
    lowercase: bool = True
    """Fold case inside the sentencepiece model (`nmt_nfkc_cf`), so that the option travels with the
    file."""
    character_coverage: float = 0.9995
    """Share of the characters of the text that get a piece; the rest become <unk>."""
    byte_fallback: bool = False
    """Spell unknown characters as bytes instead of <unk>."""
    sample: int = 1_000_000
    """Sentences (not pairs) that the model is trained on, drawn uniformly by content hash."""
    sampling: float = 1.0
    """Share of a language in the sample: proportional to its sentences to this power (0: all the
    same)."""
    file: str = ""
    """An existing sentencepiece model to use instead of training one."""


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """A small addition to a trained encoder that starts as nothing and can be switched off."""

    name: str = ""
    """Lower-case; also its place among the parameters: encoder.adapters.NAME."""
    kind: Literal["parallel", "lora"] = "parallel"
    """parallel: a bottleneck beside the feed-forward layer; lora: low-rank changes of single
    projections, which can be merged into them."""
    reduction: int = 2
    """parallel: the bottleneck is the model's width divided by this."""
    scale: float = 4.0
    """parallel: its output is multiplied by this."""
    rank: int = 16
    """lora."""
    alpha: float = 32.0
    """lora: its output is multiplied by alpha / rank."""
    targets: tuple[Literal["q", "k", "v", "out", "up", "down"], ...] = ("q", "v")
    """lora: the projections that it changes, of the attention (q, k, v, out) and of the
    feed-forward layer (up, down)."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The shared transformer encoder (recipes: ACL 2021) and its token head."""

    layers: int = 2
    """0 is legal: a bag of vectors, the mean of the normalised embeddings."""
    width: int = 512
    heads: int = 8
    feedforward: int = 1024
    embedding_width: int = 0
    """Width of the embedding table when smaller than `width` (factorised table); 0: the same."""
    ngrams: int = 0
    """Buckets for the character 3- and 4-grams of words, whose vectors go through a tanh layer and
    are added to the word's (multi-task dual encoder); needs tokenizer.model=words. 0: none."""
    max_length: int = 200
    """Tokens kept of a sentence; the rest is cut off."""
    activation: Literal["swish", "relu"] = "swish"
    """Of the feed-forward layers."""
    positions: bool = True
    """Add absolute positions."""
    sinusoidal: bool = False
    """Positions are fixed sines and cosines ("Attention Is All You Need") instead of learned."""
    pooling: Literal["mean", "max", "sum"] = "mean"
    dropout: float = 0.1
    init: Literal["reference", "scaled"] = "reference"
    """reference: embeddings N(0, 1), linear layers as in PyTorch; scaled: embeddings N(0, 0.02)."""
    identical_layers: bool = True
    """Start all layers with the same weights, as the reference's deep copies do."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the transformer's matrix products; sentence vectors, losses and norms are
    float32."""
    adapters: tuple[AdapterConfig, ...] = ()
    """Set in a recipe; the command line can change what stands there (model.adapters.0.rank)."""


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

    weight: float = 1.0
    kind: Literal["ugt", "xtr", "smlm"] = "ugt"
    duplicates: Literal["fill", "count", "uniform"] = "fill"
    """Mass of a repeated piece: 1/n once (fill), count/n (count), 1/distinct (uniform)."""
    mlm_overwrite: bool = True
    """The masked word's mass is replaced, not added to, when the word stands in the other sentence
    too."""
    xtr_from: Literal["masked", "original"] = "masked"
    """Which version of the masked sentence the other side reconstructs."""
    mask_inputs: bool = True
    """Encode the pair with one piece masked: of one side only, which a contrastive term beside this
    one may learn to tell from the other (docs/results.md). False (kind xtr only): nothing is
    masked, and `xtr_from` and `maskable` have no effect."""
    maskable: Literal["words", "all"] = "words"
    """Pieces that masking chooses from: words, or all of them, punctuation too."""
    language_width: int = 0
    """Width of the embedding of the language to be predicted, which the head sees beside the
    sentence vector (EMS); 0: the head sees the vector alone."""
    decoder: Literal["tied", "untied"] = "tied"
    """Vocabulary table of the head: the encoder's embeddings, or one of its own (EMS)."""
    decoder_bias: bool = True
    """Give the vocabulary logits a bias."""
    vocab_block: int = 8192
    """Vocabulary rows per block of logits: bounds memory, changes nothing else. 0: all at once."""


@dataclasses.dataclass(frozen=True)
class MlmConfig(Objective):
    """Masked language modelling, position by position (BERT): for one language's text, from which
    the other objectives learn nothing. Its head is the token head."""

    reads = ""
    sees_all_sentences = True

    weight: float = 0.0
    share: float = 0.15
    """Of a sentence's pieces that are predicted: rounded, at least one."""
    mask: float = 0.8
    """Share of those that the encoder sees as <MASK>."""
    random: float = 0.1
    """Share of those that it sees as any other piece; the rest stay as they are."""
    vocab_block: int = 8192
    """Vocabulary rows per block of logits: bounds memory, changes nothing else. 0: all at once."""


@dataclasses.dataclass(frozen=True)
class AlignConfig(Objective):
    """Contrastive task: a sentence finds its translation among the batch."""

    takes_any_width = True

    weight: float = 2.0
    directions: Literal["both", "forward"] = "both"
    """forward: only the first side looks for its translation (half the loss)."""
    similarity: Literal["dot", "cosine"] = "dot"
    temperature: float = 1.0
    """The similarities are divided by it."""
    margin: float = 0.0
    """Subtracted from the similarity of the true pair (additive margin softmax), before the
    temperature."""
    projection: int = 0
    """Compare projections of this width (Linear-ReLU-Linear, in training only) instead of the
    sentence vectors; 0: the vectors themselves."""


@dataclasses.dataclass(frozen=True)
class SimilarityConfig(Objective):
    """Both languages should see the same similarities within the batch (ACL 2021, section 3)."""

    takes_any_width = True

    weight: float = 2.0
    reduction: Literal["sum", "mean"] = "sum"
    eps: float = 1e-5
    """Floor of 1 - |P1 - P2| inside the logarithm; bounds the gradient at about 1/eps."""


@dataclasses.dataclass(frozen=True)
class SoftConfig(Objective):
    """Soft labels: the similarities that a teacher sees within a batch become the targets for those
    across languages (IMASCL). Needs `teacher.source`, unless the labels are hard."""

    takes_any_width = True

    weight: float = 0.0
    labels: Literal["priority", "average", "left", "right", "hard"] = "priority"
    """Which sides the teacher reads: the one whose language comes first in `teacher.priority`, both
    (average), always the first or always the second; hard: none, a sentence is like its translation
    only."""
    loss: Literal["cross-entropy", "mse"] = "cross-entropy"
    """mse: the squared difference of the two similarity matrices, a baseline."""
    targets: Literal["softmax", "raw"] = "softmax"
    """Labels are the softmax of the teacher's cosines, or the cosines as they are."""
    temperature: float = 0.1
    """Of the student's cosines."""
    teacher_temperature: float = 0.0
    """Of the teacher's cosines; 0: the same as `temperature`."""
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

    weight: float = 0.0

    def taught_sides(self, pivot: int) -> set[int]:
        return {pivot}


@dataclasses.dataclass(frozen=True)
class PivotConfig(Objective):
    """One language of a pair comes to the other, whose vectors the frozen encoder
    `teacher.source` gives (modular encoders). Only the former is encoded in training; the dev P@1
    is between the two encoders."""

    weight: float = 0.0
    loss: Literal["contrastive", "cosine", "cosine-squared"] = "contrastive"
    """contrastive: a sentence finds its pair among the batch, from a side drawn at random; cosine:
    1 - cos of the pair; cosine-squared: its square."""
    temperature: float = 0.05
    """contrastive: of the cosines."""

    def taught_sides(self, pivot: int) -> set[int]:
        return {pivot}


@dataclasses.dataclass(frozen=True)
class EseConfig(Objective):
    """Lower layers and leading dimensions should serve as vectors too (ESE): an encoder that is cut
    with `lightxling export --layers N --leading D` after the training."""

    weight: float = 0.0
    dimensions: int = 128
    """Leading dimensions that are trained to stand alone."""
    compression: float = 1.0
    """Share of learn-to-compress: leading dimensions take over principal features of all of them.
    0: they learn from the objectives alone, as in Matryoshka representation learning."""
    temperature: float = 1.0
    """Of the distributions over dimensions that learn-to-compress compares."""
    published_index: bool = False
    """Count layers as the published code does: train the output of the embeddings and leave out the
    last layer but one."""


@dataclasses.dataclass(frozen=True)
class RankingConfig(Objective):
    """A sentence ranks the sentences of the other side: translations, or responses to an input
    (multi-task dual encoder)."""

    sees_all_sentences = True

    weight: float = 0.0
    direction: Literal["backward", "forward", "both"] = "backward"
    """backward: the second side looks for the first, P(source | target) as published; forward: the
    first for the second; both: the sum."""
    head: int = 0
    """Width of the hidden layer of the head on the side that is looked for: responses have one, 320
    as published; 0: translations have none."""
    similarity: Literal["dot", "cosine"] = "dot"
    scale: float = 1.0
    """The similarities are multiplied by it."""
    margin: float = 0.0
    """Subtracted from the similarity of the true pair, before the scale."""
    exclude_positive: bool = False
    """Leave the true pair out of the denominator, as the paper prints it."""
    negatives: int = 0
    """Hard negatives of each sentence: similar but wrong ones, found with `mined_by`."""
    mined_by: str = ""
    """A run or export of lightxling, whose nearest neighbours become the hard negatives."""
    mined_among: int = 65_536
    """Sentences, drawn at random, that hard negatives are looked for among: the time of the search
    is proportional to it. 0: all of the corpus."""
    shared_negatives: bool = False
    """Let every sentence of the batch compete with the hard negatives of all, not with its own
    only."""


@dataclasses.dataclass(frozen=True)
class QuickThoughtConfig(Objective):
    """A sentence of running text ranks the sentences before and after it (multi-task dual
    encoder)."""

    reads = "text"
    sees_all_sentences = True

    weight: float = 0.0
    hidden: int = 320
    """Width of the hidden layers of its three heads."""


@dataclasses.dataclass(frozen=True)
class InferenceConfig(Objective):
    """Entailment, neutral or contradiction, from both vectors, their difference and their product
    (multi-task dual encoder)."""

    reads = "labels"

    weight: float = 0.0
    hidden: int = 512
    """Width of the layer before the softmax."""


@dataclasses.dataclass(frozen=True)
class StsConfig(Objective):
    """The cosine of two sentences should be their similarity score (mean squared error, as in
    sentence-transformers)."""

    reads = "scores"

    weight: float = 0.0
    highest: float = 5.0
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


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """A further task of a run: text and objectives of its own, and heads of its own, on the shared
    encoder. Everything else (cleaning, tokenizer, lengths, sampling) is that of the run."""

    name: str = ""
    """Prefix of its terms in metrics.jsonl, as in `nli/loss`."""
    share: float = 1.0
    """Of the steps, relative to `train.share` of the main task and the shares of the others."""
    sources: tuple[str, ...] = ()
    """Written as `corpus.sources`. quick_thought takes running text with one language,
    `en=books/*.txt`, and mlm alone sentences; inference takes `label<TAB>sentence<TAB>sentence` and
    sts `score<TAB>sentence<TAB>sentence`, both written `en-en=FILE`. Empty: the task is left
    out."""
    batch_size: int = 0
    """Rows of its batches; 0: `train.batch_size`."""
    objectives: ObjectivesConfig = NOTHING


@dataclasses.dataclass(frozen=True)
class TeacherConfig:
    """A frozen encoder whose vectors of the training sentences are computed once and kept beside
    the token store."""

    source: str = ""
    """A folder of sentence-transformers (extra `sentence-transformers`), a run or export of
    lightxling, or a matrix `.npy` of vectors."""
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
    """amsgrad follows PyTorch's rule (maximum of the uncorrected second moment). Bytes of state per
    parameter: amsgrad 12, adamw 8, lion and sgd 4 (sgd without momentum 0), adafactor almost 0."""
    learning_rate: float = 1e-3
    """Peak."""
    beta1: float = 0.9
    """Momentum; adafactor has none."""
    beta2: float = 0.999
    """Decay of the second moment; of lion's momentum, where its paper has 0.99. Not for sgd and
    adafactor."""
    eps: float = 1e-8
    """amsgrad and adamw."""
    l2: float = 1e-5
    """Added to the gradient as l2 * parameter, before the moments."""
    weight_decay: float = 0.0
    """Decoupled, whatever the rule; matrices only."""
    clip: float = 0.0
    """Largest global gradient norm; 0: no clipping."""
    embedding_gradient: float = 1.0
    """Factor of the gradient of the embedding tables, before anything else happens to it."""
    warmup_steps: int = 1999
    schedule: Literal["step", "cosine", "linear", "constant"] = "step"
    """step: times `decay_factor` from epoch `decay_epoch` on; cosine, linear: to 0 at the last
    step."""
    decay_epoch: int = 3
    decay_factor: float = 0.1


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long, in which batches, and what is written when."""

    epochs: float = 12.0
    """Passes over the training pairs; with `tasks`, those of the main task."""
    pairs: int = 0
    """Train on this many pairs (of the main task) instead of `epochs`."""
    batch_size: int = 128
    """Pairs of the global batch, over all devices."""
    micro_batch: int = 0
    """Pairs encoded at once: bounds memory for a third more time. The loss is still that of the
    whole batch; dropout is drawn differently. 0: all of them."""
    buckets: tuple[int, ...] = (8, 12, 16, 24, 32, 48, 64, 96, 128, 200)
    """Padded lengths, in tokens, below `model.max_length`, which is one too; batches hold sentences
    of one bucket."""
    sampling_temperature: float = 1.0
    """T: a language pair of n training pairs is drawn in proportion to n^(1/T), times the weights
    of its sources. 1: the corpus as it is; 5: small languages far more often than they occur. The
    length of an epoch does not depend on it."""
    batch_languages: Literal["mixed", "single"] = "mixed"
    """mixed: a batch holds any language pairs; single: one, so that all negatives are in its
    languages."""
    pad_last: Literal["drop", "duplicate"] = "drop"
    """Rows of an epoch (with `single`: of a language pair) that do not fill a batch: they sit it
    out, or random other ones are drawn once more to fill it (as IMASCL's code does; a sentence may
    then be its own negative)."""
    share: float = 1.0
    """Of the steps, for the main task, relative to the shares of `tasks`."""
    task_order: Literal["cycle", "sampled"] = "cycle"
    """Tasks take turns as evenly as their shares allow, or are drawn in proportion to them."""
    init_from: str = ""
    """Folder of a trained run or of a safetensors export: start from its encoder, its tokenizer and
    those of its heads that fit. Languages may differ, and adapters may be added."""
    trainable: tuple[str, ...] = ()
    """Parameters that learn, such as encoder.words or encoder.adapters.align (* stands for
    anything); the rest stays as it is, bit for bit. Empty: all of them."""
    seed: int = 0
    skip_nonfinite: int = 0
    """Steps with a non-finite gradient that are left out before the run stops, counted anew when it
    is resumed; 0: stop at the first."""
    profile_steps: int = 0
    """Steps, after the first few, of which a trace is written to WORKDIR/profile, for TensorBoard
    or Perfetto; 0: none."""
    log_every: int = 20
    """Steps between lines of metrics.jsonl."""
    dev_every: int = 250
    """Steps between measurements of dev P@1."""
    checkpoint_every: int = 500
    """Steps between checkpoints; one is also written at the end, at SIGTERM and at Ctrl-C."""
    keep: int = 2
    """Checkpoints kept beside the best."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices as data x model: the batch is split over data, vocabulary rows over model."""

    data: int = 0
    """0: all devices left by `model`."""
    model: int = 1


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
    train, size = config.train, task.batch_size or config.train.batch_size
    return dataclasses.replace(
        config,
        tasks=(),
        corpus=dataclasses.replace(config.corpus, sources=task.sources, dev=(), dev_share=0.0),
        objectives=task.objectives,
        train=dataclasses.replace(
            train,
            share=task.share,
            batch_size=size,
            micro_batch=train.micro_batch if train.micro_batch < size else 0,
        ),
    )


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
    fields = typing.get_type_hints(kind)
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"; perhaps you meant {path}{near[0]}" if near else ""
            name = repr(str(key))[1:-1]  # line breaks written out
            raise UserError(f"unknown setting {path}{name}{hint}")
    return kind(**{key: _typed(fields[key], value, path + key) for key, value in values.items()})


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


def flatten(values: dict, prefix: str = "") -> dict:
    """{"a": {"b": 1}, "c": [{"d": 2}]} -> {"a.b": 1, "c.0.d": 2}."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            value = {str(number): item for number, item in enumerate(value)}
        is_table = isinstance(value, dict)
        flat.update(flatten(value, f"{prefix}{key}.") if is_table else {prefix + key: value})
    return flat


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
