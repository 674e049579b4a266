"""Rules between settings: what cannot work is refused before anything is read or compiled."""

import dataclasses
import math
import re

from lightxling.base.errors import UserError
from lightxling.config.objectives import ObjectivesConfig, RankingConfig, SoftConfig
from lightxling.config.plan import MAIN, rows_of, task_alone
from lightxling.config.schema import MAX_TOKENS, Config
from lightxling.config.settings import settings_of

LARGEST = 1 << 53
"""What an integer may be."""


def validate(config: Config) -> None:
    """Refuses what cannot work, before anything is read or compiled.

    Raises:
      UserError: names the value, the rule and a value that works.
    """
    _check_bounds(config)
    _check_stages(config)
    _check_run(dataclasses.replace(config, tasks=()))
    if 0 < config.train.pairs < config.train.batch_size:
        raise UserError(
            f"train.pairs={config.train.pairs} do not fill one batch of "
            f"train.batch_size={config.train.batch_size}; train on more, or set a smaller batch"
        )
    if rows_of(config.objectives) not in ("pairs", "sentences"):
        odd = next(name for name, term in config.objectives.active().items() if term.reads)
        raise UserError(
            f"objectives.{odd} does not read translations, which the dev score needs; make it one "
            "of `tasks`, beside a main task that reads them"
        )
    names = [MAIN]
    for number, task in enumerate(config.tasks):
        place = f"tasks.{number}"
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", task.name):
            raise UserError(
                f"{place}.name={task.name!r} should be a word of small letters, such as nli"
            )
        if task.name in names:
            raise UserError(
                f"{place}.name={task.name} is taken; all names differ, and none is {MAIN}"
            )
        names.append(task.name)
        try:
            _check_run(task_alone(config, task))
        except UserError as error:
            raise UserError(f"{place} ({task.name}): {error}") from None


def bytes_of(text: str) -> int:
    """A size of memory such as 4GB, 1.5GB or 900MB in bytes; 0 for an empty text.

    Raises:
      UserError: it is none.
    """
    if not text:
        return 0
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(MB|GB)", text.strip(), re.IGNORECASE)
    if not match or not float(match[1]):
        raise UserError(f"train.memory={text!r} should be a size such as 4GB or 900MB")
    return round(float(match[1]) * {"MB": 10**6, "GB": 10**9}[match[2].upper()])


def _check_stages(config: Config) -> None:
    names = [stage.name for stage in config.stages]
    for number, (name, stage) in enumerate(zip(names, config.stages, strict=True)):
        place = f"stages.{number}"
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", name) or names.count(name) > 1:
            raise UserError(
                f"{place}.name={name!r} should be a word of small letters, such as table, that no "
                "other stage has"
            )
        if stage.train.seed:
            raise UserError(
                f"{place}.train.seed={stage.train.seed}: all stages have one seed; set train.seed"
            )


def _check_run(config: Config) -> None:
    _check_sizes(config)
    _check_objectives(config.objectives)
    _check_tokenizer(config)
    _check_start(config)
    _check_modules(config)
    _check_teaching(config)
    _check_ranking(config.objectives.ranking)
    _check_equal(config.objectives)
    rows_of(config.objectives)


def _check_bounds(config: Config) -> None:
    for setting in settings_of(config):
        name, value = setting.name, setting.value
        if setting.bound and not setting.bound.holds(value):
            raise UserError(f"{name}={value} should be {setting.bound.told}")
        if isinstance(value, int) and abs(value) > LARGEST:
            raise UserError(f"{name}={value} is too large; {LARGEST:,} is the most")
        if isinstance(value, float) and math.isnan(value):
            raise UserError(f"{name}={value} is not a number; leave it out for the default")
    if not config.corpus.store.strip():
        raise UserError(
            f"corpus.store={config.corpus.store!r} is empty; name a folder, such as stores"
        )


def _check_sizes(config: Config) -> None:
    model, train = config.model, config.train
    if model.layers and model.width % model.heads:
        below = model.width // model.heads * model.heads
        raise UserError(
            f"model.width={model.width} is not divisible by model.heads={model.heads}; "
            f"try {below or model.heads} or {below + model.heads}"
        )
    if model.sinusoidal and not model.positions:
        raise UserError("model.sinusoidal=True needs model.positions=True; leave one of them out")
    if model.embedding_width > model.width:
        raise UserError(
            f"model.embedding_width={model.embedding_width} is larger than "
            f"model.width={model.width}; 0 means the same width, smaller factorises the table"
        )
    if train.batch_size < 2:
        raise UserError("train.batch_size=1 leaves no negatives in a batch; use 2 or more")
    if train.micro_batch < 0 or (train.micro_batch and train.batch_size % train.micro_batch):
        below = [n for n in range(1, train.micro_batch) if train.batch_size % n == 0]
        raise UserError(
            f"train.micro_batch={train.micro_batch} should divide "
            f"train.batch_size={train.batch_size}; try {max(below, default=0)}"
        )
    bytes_of(train.memory)
    if not train.buckets or min(train.buckets) < 1:
        raise UserError(f"train.buckets={train.buckets} should hold lengths of at least 1 token")
    if not train.pairs and not train.epochs:
        raise UserError("train.epochs=0.0 should be greater than 0, or set train.pairs")
    if model.max_length > MAX_TOKENS:
        raise UserError(
            f"model.max_length={model.max_length} is more than the {MAX_TOKENS} tokens that are "
            "kept of a sentence"
        )
    if model.dropout > 0.99:
        raise UserError(f"model.dropout={model.dropout} leaves nothing; 0.99 is the most")


def _check_objectives(terms: ObjectivesConfig) -> None:
    if not terms.active():
        raise UserError("every objective has weight 0: nothing would be learnt")
    if terms.tokens.kind != "xtr" and not terms.tokens.mask_inputs:
        raise UserError(
            f"objectives.tokens.mask_inputs=False leaves kind={terms.tokens.kind!r} no masked word "
            "to predict; use objectives.tokens.kind=xtr with it"
        )

    has_layer = terms.tokens.weight and terms.tokens.transform and not terms.tokens.language_width
    for name in ("align", "similarity"):
        term = getattr(terms, name)
        if term.weight and term.after_head and not has_layer:
            raise UserError(
                f"objectives.{name}.after_head=True needs the layer of the token head; give "
                "objectives.tokens a weight, with transform=True and language_width=0"
            )
        if term.weight and term.after_head and terms.ese.weight:
            raise UserError(
                f"objectives.{name}.after_head=True compares what a layer makes of all dimensions, "
                "and objectives.ese fewer; leave one of them out"
            )
    if terms.align.after_head and terms.align.projection:
        raise UserError(
            "objectives.align.after_head=True and objectives.align.projection="
            f"{terms.align.projection} are two heads; leave one of them out"
        )
    if not terms.tokens.transform and terms.tokens.language_width:
        raise UserError(
            "objectives.tokens.transform=False has no layer that would see the language; set "
            "objectives.tokens.language_width=0"
        )


def _check_tokenizer(config: Config) -> None:
    tokenizer, init_from = config.tokenizer, config.train.init_from
    if not tokenizer.file and not 0.98 <= tokenizer.character_coverage <= 1:
        raise UserError(
            f"tokenizer.character_coverage={tokenizer.character_coverage} should be from "
            "0.98 to 1, the range that sentencepiece takes; 1.0 gives every character a piece"
        )
    if tokenizer.model == "words" and tokenizer.vocab_size <= 3:
        raise UserError(
            f"tokenizer.vocab_size={tokenizer.vocab_size} counts the three special pieces, and "
            "leaves no word; use more"
        )
    if init_from and tokenizer.file:
        raise UserError(
            f"tokenizer.file={tokenizer.file} and train.init_from={init_from} are "
            "given together; a run that starts from another has that one's tokenizer, so leave "
            "tokenizer.file out"
        )


def _check_start(config: Config) -> None:
    factor = config.optimizer.init_from_multiplier
    if factor != 1 and not (config.train.init_from or config.stages):
        raise UserError(
            f"optimizer.init_from_multiplier={factor} is for parameters that come from another "
            "encoder; name it as train.init_from, or leave the multiplier out"
        )


def _check_equal(terms: ObjectivesConfig) -> None:
    for name, needed, value, wanted in (
        ("soft", "labels", terms.soft.labels, "hard"),
        ("pivot", "loss", terms.pivot.loss, "contrastive"),
        ("ranking", "exclude_positive", terms.ranking.exclude_positive, False),
    ):
        if getattr(terms, name).exclude_equal and value != wanted:
            raise UserError(
                f"objectives.{name}.exclude_equal=True goes with {needed}={wanted} only, and that "
                f"is {value}; leave one of them out"
            )


def _check_ranking(ranking: RankingConfig) -> None:
    if ranking.negatives and not ranking.mined_by:
        raise UserError(
            f"objectives.ranking.negatives={ranking.negatives} are found with the encoder of an "
            "earlier run; name its folder as objectives.ranking.mined_by"
        )
    if 0 < ranking.mined_among <= ranking.negatives:
        raise UserError(
            f"objectives.ranking.mined_among={ranking.mined_among} leaves no choice of "
            f"objectives.ranking.negatives={ranking.negatives}; make it much larger, or 0 for all"
        )
    for used in ("shared_negatives", "mined_by"):
        if getattr(ranking, used) and not ranking.negatives:
            raise UserError(
                f"objectives.ranking.{used}={getattr(ranking, used)} is for hard negatives, and "
                "none are asked for; set objectives.ranking.negatives=5, or leave it out"
            )


def _check_modules(config: Config) -> None:
    mlm, pivot, tokens = (getattr(config.objectives, n) for n in ("mlm", "pivot", "tokens"))
    names = [adapter.name for adapter in config.model.adapters]
    if names and not config.model.layers:
        raise UserError("model.layers=0 has no layers for model.adapters; leave them out")
    for adapter in config.model.adapters:
        where = f"model.adapters: {adapter.name!r}"
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", adapter.name) or names.count(adapter.name) > 1:
            raise UserError(
                f"{where} should be a name of its own, of a to z, 0 to 9, - and _, and start with "
                "a letter"
            )
        if adapter.reduction > config.model.width:
            raise UserError(
                f"{where}: reduction={adapter.reduction} of model.width={config.model.width} "
                "leaves nothing; try 2"
            )
        if not adapter.targets or len(set(adapter.targets)) < len(adapter.targets):
            raise UserError(
                f"{where}: targets={adapter.targets} should be some of q, k, v, out, up and down, "
                "each once"
            )
    if mlm.weight and tokens.weight:
        raise UserError(
            "objectives.mlm and objectives.tokens both ask for the token head; set the weight of "
            "one of them to 0"
        )
    if mlm.weight and (tokens.language_width or tokens.decoder != "tied"):
        raise UserError(
            "objectives.mlm predicts with the encoder's own table and knows no languages; leave "
            "objectives.tokens.language_width=0 and objectives.tokens.decoder=tied"
        )
    if not mlm.mask + mlm.random <= 1:
        raise UserError(
            f"objectives.mlm: mask={mlm.mask} and random={mlm.random} should be shares that leave "
            "0 or more; try 0.8 and 0.1"
        )
    others = [name for name in config.objectives.active() if name != "pivot"]
    if pivot.weight and others:
        raise UserError(
            "objectives.pivot encodes one side of a pair and stands alone; set the weight of "
            f"{', '.join(others)} to 0"
        )


def _check_teaching(config: Config) -> None:
    soft, ese, teacher = config.objectives.soft, config.objectives.ese, config.teacher
    if soft.loss == "mse":
        used = {"tcm", "margin", "targets", "teacher_temperature", "cross"}
        used = {"margin"} if soft.released else used
        odd = [key for key in sorted(used) if getattr(soft, key) != getattr(SoftConfig(), key)]
        if odd:
            raise UserError(
                f"objectives.soft.loss=mse does not know {' and '.join(odd)}; leave that out, or "
                "use cross-entropy"
                + ("" if odd == ["margin"] else " or objectives.soft.released=True")
            )
    if soft.released and soft.exclude_equal and soft.targets == "softmax":
        raise UserError(
            "objectives.soft.exclude_equal=True leaves out sentences that hard labels give mass to "
            "where objectives.soft.released=True takes their softmax; leave one of them out, or "
            "give objectives.soft.targets=raw"
        )
    if ese.weight:
        if config.objectives.align.weight and config.objectives.align.projection:
            raise UserError(
                "objectives.ese aligns fewer dimensions of the sentence vectors themselves; set "
                "objectives.align.projection=0"
            )
        if ese.dimensions >= config.model.width:
            raise UserError(
                f"objectives.ese.dimensions={ese.dimensions} should be below "
                f"model.width={config.model.width}"
            )
        terms = config.objectives
        if not any(term.takes_any_width for term in terms.active().values()):
            *some, last = (f.name for f in dataclasses.fields(terms) if f.default.takes_any_width)
            raise UserError(
                f"objectives.ese gives the objectives {', '.join(some)} and {last} to lower layers "
                "and fewer dimensions; give one of them a weight"
            )
    if teacher.text and not teacher.source.endswith(".npy"):
        raise UserError(
            f"teacher.text={teacher.text} belongs to a matrix, and teacher.source="
            f"{teacher.source!r} is not called .npy"
        )
    if teacher.source.endswith(".npy") and not teacher.text:
        raise UserError(
            f"teacher.source={teacher.source} is a matrix; name the file with the sentences of its "
            "rows as teacher.text"
        )
    if teacher.source.endswith(".npy") and teacher.prefix:
        raise UserError(
            f"teacher.prefix={teacher.prefix!r} does nothing with a matrix; leave it out"
        )
