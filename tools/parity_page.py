"""Writes docs/parity.md: the numbers of the papers against the recipes that follow them.

python tools/parity_page.py

What stands under `specification` is typed from the papers and from reading their released code.
What stands under `here` is never typed: it is read from the recipe, or measured in what the recipe
makes (rates from the schedule, deviations and sizes from fresh parameters). tests/test_parity.py
compares both, and asks for a reason where they differ.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lightxling.base.tree import flatten
from lightxling.config import change, load
from lightxling.config.schema import Config
from lightxling.model import build as models
from lightxling.model.encoder import dropout
from lightxling.objectives.combine import heads_of
from lightxling.train.optimizer import learning_rate

PAGE = Path(__file__).parent.parent / "docs" / "parity.md"

INTRODUCTION = """\
# Parity

Recipes that bear a paper's name, number by number. Under *specification* stands what the paper or
its released code has; under *here* what the recipe gives, read from its settings or measured in
what it makes: learning rates in the schedule, deviations, bounds and sizes in fresh parameters. The
last column is empty where both agree. Losses, masks, targets and forward passes are compared in the
tests, with the papers' formulas as slow loops in float64.

This page is written by `python tools/parity_page.py`.
"""


@dataclasses.dataclass(frozen=True)
class Row:
    """A number of a paper.

    Attributes:
      spec: typed, never computed from ours.
      here: the path of a setting, or what measures the recipe.
      why: the reason, where ours differs.
      tolerance: relative, for what is drawn at random.
    """

    what: str
    spec: Any
    here: str | Callable[[Config], Any]
    why: str = ""
    tolerance: float = 1e-4

    def ours(self, config: Config) -> Any:
        if callable(self.here):
            return self.here(config)
        value: Any = config
        for name in self.here.split("."):
            value = value[int(name)] if name.isdecimal() else getattr(value, name)
        return value

    def agrees(self, config: Config) -> bool:
        ours = self.ours(config)
        if isinstance(self.spec, str | bool):
            return ours == self.spec
        return bool(np.allclose(ours, self.spec, rtol=self.tolerance, atol=1e-12))


def rate(step: int, steps: int, per_epoch: int = 10**9) -> Callable[[Config], float]:
    """The learning rate at a step, counted from 0, of a run of so many."""

    def measure(config: Config) -> float:
        schedule = learning_rate(config.optimizer, steps=steps, steps_per_epoch=per_epoch)
        return float(schedule(step))

    return measure


@functools.cache
def fresh(config: Config, part: str) -> dict[str, np.ndarray]:
    """Fresh parameters of a part by their names: of at most two layers, and none where the part is
    no layer, with few pieces and n-grams."""
    layers = min(config.model.layers, 2) if "blocks" in part else 0
    small = change(config.model, layers=layers, ngrams=min(config.model.ngrams, 500))
    small = small if layers else change(small, adapters=())

    def make(key):
        params = flatten(models.initialise(small, 500, key, heads_of(config.objectives, 62)))
        return {name: value for name, value in params.items() if re.fullmatch(part, name)}

    return jax.device_get(jax.jit(make)(jax.random.key(0)))  # what is not returned is not made


def std(name: str) -> Callable[[Config], float]:
    """Deviation of a fresh table; its first row, the padding, is left out."""
    return lambda config: float(fresh(config, name)[name][1:].std())


def bound(name: str, part: str) -> Callable[[Config], float]:
    """Largest absolute value of fresh parameters."""
    return lambda config: float(np.abs(fresh(config, part)[name]).max())


def shape(name: str) -> Callable[[Config], tuple[int, ...]]:
    """Of a parameter, with 500 pieces and 62 languages."""

    def measure(config: Config) -> tuple[int, ...]:
        heads = heads_of(config.objectives, 62)
        make = functools.partial(models.initialise, config.model, 500, heads=heads)
        return flatten(jax.eval_shape(make, jax.random.key(0)))[name].shape

    return measure


def size(vocab: int, part: str = "") -> Callable[[Config], int]:
    """Parameters, of the whole model or a part, with so many pieces and 62 languages."""

    def count(config: Config) -> int:
        heads = heads_of(config.objectives, 62)
        make = functools.partial(models.initialise, config.model, vocab, heads=heads)
        params = jax.eval_shape(make, jax.random.key(0))
        return models.count_parameters(params[part] if part else params)

    return count


def layers_differ_by(config: Config) -> float:
    params = fresh(config, LAYERS)
    pairs = [(name, name.replace("blocks.0", "blocks.1")) for name in params if "blocks.0" in name]
    return max(float(np.abs(params[a] - params[b]).max()) for a, b in pairs)


def dropped(config: Config) -> float:
    """Share of a million numbers that dropout zeroes."""
    drop = jax.jit(functools.partial(dropout, rate=config.model.dropout, key=jax.random.key(0)))
    return round(float((drop(np.ones((1000, 1000), np.float32)) == 0).mean()), 4)


LAYERS = r"encoder\.blocks\.\d\.(out|down)\.(kernel|bias)"
ADAPTER = r"encoder\.adapters\.align\.blocks\.0\.(up|down)\.kernel"
RATE = 1 / math.sqrt(512)

BEST = Row(
    "parameters that are kept",
    "loss",
    "train.best",
    "of the best dev P@1, which is what results are about; `--train.best loss` keeps those of the "
    "lowest loss on the development pairs",
)
ACL = (
    Row("layers, width, heads, feed-forward", (2, 512, 8, 1024), lambda c: _sizes(c)),
    Row("activation", "swish", "model.activation"),
    Row("rows of the table of positions", (201, 512), shape("encoder.positions")),
    Row("pieces of a sentence", 200, "model.max_length"),
    Row("epsilon of LayerNorm", 1e-12, lambda c: c.model.norm_eps),
    Row("pooling", "mean", "model.pooling"),
    Row("parameters of the encoder (50,000 pieces)", 29_909_504, size(50_000, "encoder")),
    Row("... and with the head", 30_223_184, size(50_000)),
    Row("start: deviation of the pieces' vectors", 1.0, std("encoder.words"), tolerance=0.01),
    Row("... of the positions", 1.0, std("encoder.positions"), tolerance=0.01),
    Row(
        "... vector of the padding",
        0.0,
        lambda c: float(np.abs(fresh(c, "encoder.words")["encoder.words"][0]).max()),
    ),
    Row(
        "... bound of a matrix of fan-in 512",
        RATE,
        bound("encoder.blocks.0.out.kernel", LAYERS),
        tolerance=1e-3,
    ),
    Row("... and of its bias", RATE, bound("encoder.blocks.0.out.bias", LAYERS), tolerance=0.02),
    Row(
        "... matrix of fan-in 1024",
        1 / 32,
        bound("encoder.blocks.0.down.kernel", LAYERS),
        tolerance=1e-3,
    ),
    Row("... difference between the two layers", 0.0, layers_differ_by),
    Row("... bias of the logits", 0.0, bound("token_head.bias", "token_head.bias")),
    Row(
        "dropout as it happens",
        0.1,
        dropped,
        "the rate is rounded to 26/256, as four random octets come from one random word; the "
        "rest is scaled for exactly that",
        2e-3,
    ),
    Row("tokenizer", "bpe", "tokenizer.model"),
    Row("pieces", 50_000, "tokenizer.vocab_size"),
    Row("share of characters covered", 0.9995, "tokenizer.character_coverage"),
    Row(
        "case",
        "lower()",
        lambda c: "folded" if c.tokenizer.lowercase else "kept",
        "folded in full inside the tokenizer, so that an exported encoder does it too: ß is ss",
    ),
    Row(
        "words",
        "cut by spaCy",
        lambda c: "as they stand",
        "no tokenizer of words is needed to use the encoder; sentencepiece sees plain text",
    ),
    Row(
        "HTML entities",
        "kept",
        lambda c: "resolved" if c.corpus.unescape else "kept",
        "`--corpus.unescape False` keeps them",
    ),
    Row(
        "equal pairs",
        "kept",
        lambda c: "once" if c.corpus.deduplicate else "kept",
        "`--corpus.deduplicate False` keeps them",
    ),
    Row(
        "longest side, in characters",
        math.inf,
        "corpus.max_chars",
        "longer lines are no sentences; `--corpus.max-chars 1000000 --corpus.max-ratio 1000000` "
        "keeps all",
    ),
    Row(
        "longest side over shortest",
        math.inf,
        "corpus.max_ratio",
        "as above",
    ),
    Row(
        "held-out pairs",
        10_000,
        "corpus.dev_limit",
        "candidates of the dev P@1; `--corpus.dev-limit 10000`",
    ),
    Row(
        "last word of every second side",
        "lost",
        lambda c: "read",
        "a slip of the code, which looks for its tag before its newline is gone; "
        "`--corpus.sources en-fr=FILE#released` loses it, too",
    ),
    Row("objective", "ugt", "objectives.tokens.kind"),
    Row("layer between vector and logits (has_FC)", True, "objectives.tokens.transform"),
    Row("sentence losses before it", True, lambda c: not c.objectives.align.after_head),
    Row("mass of a repeated piece", "fill", "objectives.tokens.duplicates"),
    Row("masked word's mass overwritten", True, "objectives.tokens.mlm_overwrite"),
    Row("other side rebuilds the sentence as", "masked", "objectives.tokens.xtr_from"),
    Row("weights: generation, alignment, similarity", (1, 2, 2), lambda c: _weights(c)),
    Row("alignment by", "dot", "objectives.align.similarity"),
    Row("... temperature", 1.0, "objectives.align.temperature"),
    Row("similarity over the cells", "sum", "objectives.similarity.reduction"),
    Row("update rule", "amsgrad", "optimizer.name"),
    Row("beta 1, beta 2", (0.9, 0.999), lambda c: (c.optimizer.beta1, c.optimizer.beta2)),
    Row("epsilon", 1e-8, "optimizer.eps"),
    Row("L2 in the gradient", 1e-5, "optimizer.l2"),
    Row("decoupled decay", 0.0, "optimizer.weight_decay"),
    Row("clipping", 0.0, "optimizer.clip"),
    Row("rate at step 0", 1e-3 / 1999, rate(0, 48_000, 4000)),
    Row("... 999", 1e-3 * 1000 / 1999, rate(999, 48_000, 4000)),
    Row("... 1998", 1e-3, rate(1998, 48_000, 4000)),
    Row("... last of epoch 2", 1e-3, rate(11_999, 48_000, 4000)),
    Row("... first of epoch 3", 1e-4, rate(12_000, 48_000, 4000)),
    Row("batch", 128, "train.batch_size"),
    Row("epochs (fr, de, es)", 12, "train.epochs"),
    BEST,
    Row(
        "precision",
        "fp16, scaled loss",
        "model.compute_dtype",
        "what a CPU has; `--model.compute-dtype bfloat16` on accelerators",
    ),
    Row(
        "batches",
        "shuffled",
        lambda c: "by length" if len(c.train.buckets) > 1 else "shuffled",
        "less padding; `--train.buckets 200` shuffles",
    ),
)

RATES = (
    Row("rate at step 0 of 20,000", 3e-8, rate(0, 20_000)),
    Row("... 9,999", 1.500236e-4, rate(9_999, 20_000)),
    Row("... 15,000", 4.393398e-5, rate(15_000, 20_000)),
    Row("... 20,000", 0.0, rate(20_000, 20_000)),
)
EMS = (
    Row("layers, width, heads, feed-forward", (6, 1024, 16, 4096), lambda c: _sizes(c)),
    Row("rows of the table of positions", (121, 1024), shape("encoder.positions")),
    Row("pieces of a sentence", 120, "model.max_length"),
    Row("parameters of the encoder (60,000 pieces)", 137_143_296, size(60_000, "encoder")),
    Row("... in training (62 languages)", 208_782_848, size(60_000)),
    Row("table of languages", (62, 128), shape("token_head.languages")),
    Row("... its deviation at the start", 1.0, std("token_head.languages"), tolerance=0.05),
    Row(
        "its rows",
        "62 languages",
        lambda c: "those of the run's text",
        "in the order of their codes; a run with the paper's 62 has 62",
    ),
    Row("matrix of the token head", (1152, 1152), shape("token_head.dense.kernel")),
    Row("activation (gelu_new is an option there)", "swish", "model.activation"),
    Row("vocabulary table of the head", "untied", "objectives.tokens.decoder"),
    Row("... bias of its logits", False, "objectives.tokens.decoder_bias"),
    Row("projection", (1024, 128), shape("projection.out.kernel")),
    Row("objective", "xtr", "objectives.tokens.kind"),
    Row("temperature of the cosines", 0.1, "objectives.align.temperature"),
    Row("weight of the sum of both directions", 1.0, "objectives.align.weight"),
    Row("weight of the similarity term", 0.0, "objectives.similarity.weight"),
    Row("pieces", 60_000, "tokenizer.vocab_size"),
    Row("update rule", "amsgrad", "optimizer.name"),
    Row("L2 in the gradient", 1e-5, "optimizer.l2"),
    *RATES,
    Row("pairs of a device's batch", 152, "train.batch_size"),
    Row("epochs", 15, "train.epochs"),
    Row("sampling temperature (off)", 1.0, "train.sampling_temperature"),
    BEST,
    Row(
        "words",
        "cut by Moses, jieba, Juman++",
        lambda c: "as they stand",
        "no tokenizer of words is needed to use the encoder",
    ),
)
MASKS = (
    Row("one piece of a pair masked", True, "objectives.tokens.mask_inputs"),
    Row("... punctuation too", "all", "objectives.tokens.maskable"),
)

SOFT = (
    Row("labels", "priority", "objectives.soft.labels"),
    Row("targets, by the command of the readme", "softmax", "objectives.soft.targets"),
    Row("temperature of the student", 0.1, "objectives.soft.temperature"),
    Row("... of the teacher; 0: the same", 0.0, "objectives.soft.teacher_temperature"),
    Row("weight across languages", 1.0, "objectives.soft.cross"),
    Row("monolingual terms, unless asked for", False, "objectives.soft.tcm"),
    Row("... counted twice", True, "objectives.soft.tcm_double"),
    Row("margin", 0.0, "objectives.soft.margin"),
    Row("update rule", "adamw", "optimizer.name"),
    Row("rate at step 0 of 1,000", 3e-5, rate(0, 1000)),
    Row("... 250", 2.25e-5, rate(250, 1000)),
    Row("... 999", 3e-8, rate(999, 1000), tolerance=1e-3),
    Row("decoupled decay", 0.0, "optimizer.weight_decay"),
    Row("clipping", 1.0, "optimizer.clip"),
    Row("batch over all devices", 28, "train.batch_size"),
    Row("encoded at once (there small_batch_size), 0: all", 0, "train.micro_batch"),
    Row("epochs", 30, "train.epochs"),
    Row("languages of a batch", "single", "train.batch_languages"),
    Row("last rows of a language pair", "duplicate", "train.pad_last"),
    BEST,
    Row(
        "tokens of a sentence",
        512,
        "model.max_length",
        "the student of `light`, which starts from nothing; there a pretrained one (or "
        "`--train.init-from`)",
    ),
)

DUAL = (
    Row("words, buckets of unknown ones", (200_000, 10_000), lambda c: _words(c)),
    Row("buckets of character n-grams", 200_000, "model.ngrams"),
    Row("width of words and n-grams", (500, 320), shape("encoder.words")),
    Row("layer on n-grams", (320, 320), shape("encoder.ngram_layer.kernel")),
    Row("layers", 3, "model.layers"),
    Row("width that is ranked", 512, "model.width"),
    Row("tokens of a sentence", 64, "model.max_length"),
    Row("bridge: products, P(source \\| target)", "backward", "objectives.ranking.direction"),
    Row("... by", "dot", "objectives.ranking.similarity"),
    Row("... scale", 1.0, "objectives.ranking.scale"),
    Row(
        "... hard negatives",
        5,
        "objectives.ranking.negatives",
        "they need an earlier run: `--objectives.ranking.negatives 5 "
        "--objectives.ranking.mined-by RUN`",
    ),
    Row("responses: hidden layer of the head", 320, "tasks.0.objectives.ranking.head"),
    Row("... input finds response", "forward", "tasks.0.objectives.ranking.direction"),
    Row("quick-thought: hidden layers", 320, "tasks.2.objectives.quick_thought.hidden"),
    Row("inference: layer", 512, "tasks.4.objectives.inference.hidden"),
    Row("update rule", "sgd", "optimizer.name"),
    Row("momentum", 0.0, "optimizer.beta1"),
    Row("rate at step 0", 0.008, rate(0, 1000)),
    Row("... and at the last", 0.008, rate(999, 1000)),
    Row("factor of the embeddings' gradient", 100.0, "optimizer.embedding_gradient"),
    Row("batch", 100, "train.batch_size"),
    Row(
        "steps, at most",
        30_000_000,
        lambda c: c.train.pairs // c.train.batch_size * (1 + len(c.tasks)),
    ),
    Row("tasks in turn", "cycle", "train.task_order"),
)

V1_LANGUAGE = (
    Row("share predicted", 0.15, "objectives.mlm.share"),
    Row(
        "... of these masked, random",
        (0.8, 0.1),
        lambda c: (c.objectives.mlm.mask, c.objectives.mlm.random),
    ),
    Row("tokens of a row, at most", 256, "train.max_length"),
    Row(
        "a row",
        "block of running text",
        lambda c: "a sentence",
        "`lightxling modular` has sentences, in an order without meaning",
    ),
    Row("batch (128 x 2)", 256, "train.batch_size"),
    Row("update rule", "adamw", "optimizer.name"),
    Row("epsilon, decay, clipping", (1e-8, 0, 0), lambda c: _rest(c)),
    Row("rate at step 0 of 1,000", 5e-5, rate(0, 1000)),
    Row("... 500", 2.5e-5, rate(500, 1000)),
    Row("epochs", 3, "train.epochs"),
    Row("parameters that learn (none named: all)", (), "train.trainable"),
)
V1_SENTENCE = (
    Row("cosines times", 20.0, lambda c: 1 / c.objectives.align.temperature),
    Row("directions", "forward", "objectives.align.directions"),
    Row("tokens of a sentence", 64, "train.max_length"),
    Row("batch", 32, "train.batch_size"),
    Row("epsilon, decay, clipping", (1e-6, 0.01, 1.0), lambda c: _rest(c)),
    Row("rate at step 0", 2e-5, rate(0, 1000)),
    Row("... and at the last", 2e-5, rate(999, 1000)),
    Row("epochs", 1, "train.epochs"),
)
V1_ALIGN = (
    Row(
        "the pivot's encoder while the adapter learns",
        "drops out",
        lambda c: "is as in use",
        "its vectors are computed once, with its own tokenizer; targets with noise are a slip of "
        "the code, which puts the frozen encoder back into training mode",
    ),
    Row("adapter: width over bottleneck", 2, "model.adapters.0.reduction"),
    Row("... its output times", 4.0, "model.adapters.0.scale"),
    Row(
        "... bound of the way down, times the root of the width",
        1.0,
        lambda c: _down(c) * math.sqrt(c.model.width),
        tolerance=2e-3,
    ),
    Row("... way up", 0.0, bound("encoder.adapters.align.blocks.0.up.kernel", ADAPTER)),
    Row("cosines times", 20.0, lambda c: 1 / c.objectives.pivot.temperature),
    Row("tokens of a sentence", 128, "train.max_length"),
    Row("batch", 128, "train.batch_size"),
    Row("epsilon, decay, clipping", (1e-6, 0.01, 1.0), lambda c: _rest(c)),
    Row("rate at step 0", 1e-4, rate(0, 1000)),
    Row("... and at the last", 1e-4, rate(999, 1000)),
    Row("epochs", 1, "train.epochs"),
)

IMASCL = {
    "optimizer__learning_rate": 3e-5,
    "optimizer__weight_decay": 0.0,
    "optimizer__schedule": "linear",
    "optimizer__warmup_steps": 0,
    "train__batch_size": 28,
    "train__epochs": 30.0,
    "train__batch_languages": "single",
    "train__pad_last": "duplicate",
}
"""The optimizer's settings of the paper, as the docstring of `soft` has them."""

TABLES: tuple[tuple[str, str, tuple[Row, ...]], ...] = (
    ("acl2021", "UGT, alignment and similarity (arXiv 2105.13856), its code.", ACL),
    ("ems", "EMS (arXiv 2205.15744).", EMS),
    ("ems-code", "EMS as its released code runs: what it has beyond `ems`.", (*MASKS, *RATES)),
    (
        "soft",
        "IMASCL (arXiv 2405.16155), its code, with the optimizer that the recipe's docstring "
        "names, `--train.batch-languages single` and `--train.pad-last duplicate`.",
        SOFT,
    ),
    ("dual-encoder", "Multi-task dual encoder (arXiv 1810.12836), the paper.", DUAL),
    (
        "modular-v1-language",
        "Modular encoders (arXiv 2407.14878), the first version's code.",
        V1_LANGUAGE,
    ),
    ("modular-v1-sentence", "", V1_SENTENCE),
    ("modular-v1-align", "", V1_ALIGN),
)


@functools.cache
def recipe(name: str) -> Config:
    """A recipe as its table compares it."""
    return change(load(name), **IMASCL) if name == "soft" else load(name)


def page() -> str:
    """The whole page."""
    lines = [INTRODUCTION]
    for name, about, rows in TABLES:
        lines += [f"## {name}\n", *([about, ""] if about else [])]
        lines += ["| | specification | here | where it differs |", "| --- | --- | --- | --- |"]
        lines += [*written(rows, recipe(name)), ""]
    return "\n".join(lines)


def written(rows: tuple[Row, ...], config: Config) -> Iterator[str]:
    for row in rows:
        yield f"| {row.what} | {shown(row.spec)} | {shown(row.ours(config))} | {row.why} |"


def shown(value: Any) -> str:
    """A number of four digits, or what stands there."""
    if isinstance(value, tuple):
        return ", ".join(map(shown, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value != math.inf:
        return f"{value:.4g}"
    return (
        "no limit" if value == math.inf else f"{value:,}" if isinstance(value, int) else str(value)
    )


def _sizes(config: Config) -> tuple[int, ...]:
    model = config.model
    return model.layers, model.width, model.heads, model.feedforward


def _weights(config: Config) -> tuple[float, ...]:
    terms = config.objectives
    return terms.tokens.weight, terms.align.weight, terms.similarity.weight


def _words(config: Config) -> tuple[int, int]:
    return config.tokenizer.vocab_size, config.tokenizer.hash_buckets


def _rest(config: Config) -> tuple[float, float, float]:
    return config.optimizer.eps, config.optimizer.weight_decay, config.optimizer.clip


def _down(config: Config) -> float:
    return bound("encoder.adapters.align.blocks.0.down.kernel", ADAPTER)(config)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
