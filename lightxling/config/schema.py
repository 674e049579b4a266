"""What a run is: frozen dataclasses that hold the only copy of every default.

A recipe is a Python file with `config = Config(...)` and only what differs from these defaults; the
command line overrides single fields (`--train.seed 1`). A run writes its resolved config to
`config.json`, and that file is read back without executing Python.

Every field has a text, whose first sentence is its line in `--help`, with its unit; what a number
may be stands in its type. Nothing here imports jax.
"""

import dataclasses
from typing import Literal

from lightxling.config.objectives import NOTHING, ObjectivesConfig
from lightxling.config.settings import BelowOne, FromZero, Positive

NewPieces = Literal["parts", "similar"]
"""What pieces start as that an encoder does not have (`lightxling.train.specialise`)."""


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """Where the sentence pairs come from and which of them are kept."""

    sources: tuple[str, ...] = ()
    """Parallel text, `en-fr=PATH` each. A path is a file of a format of docs/files.md, packed or
    not, or a glob of them, a Moses stem (`corpus` for corpus.en and corpus.fr),
    `tfds:para_crawl/enfr` or `mtdata:Statmt-news_commentary-16-deu-eng`. `en-fr@2=PATH` draws each
    of its pairs twice an epoch. For objectives.mlm alone, `fr=PATH` is text of one
    language, a sentence a line."""
    dev: tuple[str, ...] = ()
    """Development pairs, written as the sources. Without any, they are split off from the sources
    by content hash."""
    dev_share: BelowOne[float] = 0.01
    """Share of the source pairs held out where no `dev` is given."""
    dev_limit: Positive[int] = 2000
    """Development pairs kept per language pair: the candidates of the dev P@1."""
    unescape: bool = True
    """Turn HTML entities (`&quot;`) into characters, here and where the encoder is used."""
    max_chars: int = 400
    """Longest side kept, in characters as `length_unit` counts them."""
    max_ratio: float = 4.0
    """Longest side over shortest side, by `length_unit`. Sides under 20 characters count as 20."""
    length_unit: Literal["latin", "characters"] = "latin"
    """What a side's length counts. `latin`: characters, where one of the dense scripts (Chinese,
    kana, Hangul) counts as the Latin ones that say as much. `characters`: each counts as one."""
    deduplicate: bool = True
    """Keep the first of pairs that are equal up to case, punctuation and spaces."""
    identify: FromZero[int] = 0
    """Rows at the beginning of each source whose languages are identified, and said with a warning
    where they are others than the source names; 0: none. Needs the extra lid."""
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
    """Fold case, in full: ß is ss, İ is i. This is done inside the sentencepiece model's file. A
    `file` that keeps case gets the table for it."""
    character_coverage: float = 0.9995
    """Share of the text's characters that get a piece, 0.98 to 1. The rest is `<unk>`."""
    byte_fallback: bool = False
    """Spell unknown characters as bytes instead of `<unk>`."""
    sample: Positive[int] = 1_000_000
    """Sentences (not pairs) that it is trained on. They are drawn uniformly, by content hash."""
    sampling: FromZero[float] = 1.0
    """A language's sentences to this power are its share. 0: all have the same."""
    file: str = ""
    """An existing sentencepiece model to use instead of training one. What it was trained with is
    its own: of these settings only `lowercase` goes with it."""


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
    """Transformer layers. 0: a bag of vectors, the pooled embeddings alone."""
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
    activation: Literal["swish", "relu", "gelu", "gelu_new"] = "swish"
    """Of the feed-forward layers. gelu is the exact one, x Phi(x), as BERT has it; gelu_new the one
    through tanh, as in GPT-2."""
    positions: bool = True
    """Add absolute positions."""
    sinusoidal: bool = False
    """Positions are fixed sines and cosines ("Attention Is All You Need") instead of learned."""
    embedding_norm: bool = True
    """Normalise the embeddings (LayerNorm). False lets a piece keep the length that it learns,
    which is a weight in the mean of a bag."""
    norm_eps: Positive[float] = 1e-12
    """Added to the variance by the norms; XLM-R has 1e-5."""
    dense: bool = False
    """A layer tanh(W s + b) on the pooled vector, of the same width, as LaBSE has it."""
    pooling: Literal["mean", "max", "sum", "weighted", "attention", "cls"] = "mean"
    """How the vectors of the tokens become that of the sentence. weighted: a mean with a learnt
    weight for every piece; attention: weights from the vectors themselves, softmax(q h) with a
    learnt query q. Both start as the mean. cls: the vector of the first token, for encoders of
    other programs, whose tokenizers begin every text with one piece."""
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
    init_from_multiplier: Positive[float] = 1.0
    """Multiplier of the learning rate for the parameters of the encoder that `train.init_from` has.
    New layers, adapters and all heads have the rate itself."""
    warmup_steps: FromZero[int] = 1999
    """Steps in which the learning rate grows to its peak."""
    schedule: Literal["step", "cosine", "linear", "constant"] = "step"
    """After the warm-up. step: times `decay_factor` from epoch `decay_epoch` on; cosine, linear: to
    0 at the last step."""
    decay_over: Literal["rest", "all"] = "rest"
    """cosine, linear: the steps that the way to 0 takes. rest: those after the warm-up, from the
    peak on; all: every step from the first, times the warm-up (as EMS's code does)."""
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
    memory: str = ""
    """Memory that a training step may take on each device, such as 4GB or 900MB; empty: all that is
    free. With `micro_batch` at 0 the largest micro-batch that fits is taken, and said. The process
    itself takes more: libraries, the compiler, text."""
    buckets: tuple[int, ...] = (8, 12, 16, 24, 32, 48, 64, 96, 128, 200)
    """Padded lengths of batches, in tokens; `model.max_length` is one too. Batches hold sentences
    of one bucket."""
    max_length: FromZero[int] = 0
    """Tokens that training reads of a sentence, at most `model.max_length`; 0: as many. The encoder
    reads `model.max_length` of them all the same when it is used."""
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
    those of its heads that fit are taken. Languages may differ, adapters and layers may be added,
    which start as nothing, and the mean may become a learnt pooling."""
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
    best: Literal["p@1", "loss"] = "p@1"
    """Which parameters are kept as the best: those of the highest dev P@1, or those of the lowest
    loss on the development pairs (as the papers' code does). The latter is measured beside the
    P@1: without dropout, the masks always the same, in whole batches."""
    checkpoint_every: Positive[int] = 500
    """Steps between checkpoints. One is also written at the end, at SIGTERM and at Ctrl-C."""
    keep: Positive[int] = 2
    """Checkpoints kept beside the best."""


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """A run that comes before that of the recipe, which starts from its encoder. Its text, its
    tokenizer, its seed and the rest of its model are those of the recipe."""

    name: str = ""
    """Its folder: WORKDIR/stages/NAME."""
    layers: FromZero[int] = 0
    """As `model.layers`. A stage has as many layers as the one before it, or more."""
    objectives: ObjectivesConfig = ObjectivesConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()


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
    stages: tuple[StageConfig, ...] = ()
    """Runs that come before this one, each started from the one before it; given by recipes, as in
    `configs/grow.py`."""


MAX_TOKENS = 512
"""Kept of a sentence in a token store; `model.max_length` may cut it further."""
