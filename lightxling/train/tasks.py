"""The tasks of a run: each has data, objectives and a share of the steps; the encoder is one.

A run is a list of tasks. The first, the main one, is what `corpus` and `objectives` describe; most
runs have no other.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from lightxling.base.errors import UserError
from lightxling.config.objective import Objective
from lightxling.config.objectives import ObjectivesConfig
from lightxling.config.plan import MAIN, naming, rows_of, tasks_of
from lightxling.config.schema import Config
from lightxling.corpus.batch import Batch
from lightxling.corpus.batches import Batches, Groups
from lightxling.corpus.prepare import prepare_tasks
from lightxling.corpus.sources import Source
from lightxling.corpus.store import Store
from lightxling.corpus.tokenizer import load_tokenizer
from lightxling.corpus.vectors import SentenceVectors
from lightxling.model import build as models
from lightxling.objectives.combine import heads_of
from lightxling.train.frozen import Answers
from lightxling.train.micro_batch import value_and_grad
from lightxling.train.sharding import local_rows, make_mesh
from lightxling.train.turns import Turns


class RunTask(NamedTuple):
    """A task with its data."""

    name: str
    config: Config
    """As of a run that has this task alone."""
    store: Store
    languages: tuple[str, ...]
    """Codes of all languages of the run, sorted."""
    batches: Batches
    taught: SentenceVectors | None
    """The teacher's vectors, where an objective reads them."""

    @property
    def terms(self) -> list[str]:
        """Names of its objectives."""
        return list(self.config.objectives.active())

    @property
    def prefix(self) -> str:
        """Before the names of its values in metrics.jsonl."""
        return "" if self.name == MAIN else f"{self.name}/"

    @property
    def rows(self) -> int:
        """Of a batch, in all processes together."""
        return self.batches.batch_size

    @property
    def teacher_width(self) -> int:
        return self.taught.width if self.taught else 0

    def named(self, metrics: dict) -> dict:
        """What a step returns, with the names that metrics.jsonl has."""
        own = ("loss", *self.terms)
        return {self.prefix + k if k in own else k: value for k, value in metrics.items()}


def check_sides(config: Config) -> None:
    """Refuses sources of three languages where an objective reads pairs, and wrong answers beside
    the pairs (`en-fr-fr=FILE`) where none reads them.

    Raises:
      UserError: names the source.
    """
    for name, task in tasks_of(config).items():
        rows, terms = rows_of(task.objectives), task.objectives.active()
        for text in (*task.corpus.sources, *task.corpus.dev):
            with naming(name):
                source = Source.parse(text, rows)
                if rows == "pairs" and len(source.languages) > 2:
                    _check_triples(text, source, terms)


def _check_triples(text: str, source: Source, terms: Mapping[str, Objective]) -> None:
    _, right, *wrong = source.languages
    if set(wrong) != {right}:
        raise UserError(
            f"source {text!r}: training reads pairs; write every pair of these "
            "languages as a source of its own. Wrong answers beside a pair are in the "
            f"language of its second side, as in {'-'.join([*source.languages[:2], right])}"
        )
    readers = [name for name, term in terms.items() if term.takes_negatives]
    ranking = terms.get("ranking")
    if not readers or "pivot" in terms:
        raise UserError(
            f"source {text!r}: the third sentence of a row is a wrong answer, which objectives."
            "align and objectives.ranking read; give one of them a weight, or name two columns: "
            f"{'-'.join(source.languages[:2])}={source.path}#1,2"
        )
    if ranking and (ranking.direction != "forward" or ranking.negatives):
        raise UserError(
            f"source {text!r}: the wrong answers are to the first sentence; set "
            "objectives.ranking.direction=forward and objectives.ranking.negatives=0"
        )


def mesh_for(config: Config) -> Mesh:
    """The device mesh, over which the batches of all tasks must divide."""
    meshes = []
    for name, task in tasks_of(config).items():
        with naming(name):
            size, part = task.train.batch_size, task.train.micro_batch
            meshes.append(make_mesh(task.mesh, batch_size=size, micro_batch=part))
    return meshes[0]


def open_stores(config: Config, say: Callable[[str], None]) -> dict[str, tuple[Config, Store]]:
    """The configuration and the store of every task, prepared where they do not exist."""
    stores = prepare_tasks(config, progress=say)
    return {name: (task, Store.open(path)) for name, (task, path) in stores.items()}


def check_stores(stores: Mapping[str, tuple[Config, Store]]) -> None:
    """Refuses text that does not go with the settings.

    Raises:
      UserError: n-grams without words, or scores that are out of their range.
    """
    config, store = stores[MAIN]
    if config.model.ngrams and store.train.words is None:
        raise UserError(
            f"model.ngrams={config.model.ngrams} are of words, and the tokenizer has pieces; set "
            "tokenizer.model=words, or model.ngrams=0"
        )
    for name, (task, store) in stores.items():
        sts = task.objectives.sts
        if sts.weight and store.train.rows and (best := store.train.label.max()) > sts.highest:
            with naming(name):
                raise UserError(
                    f"its sources have scores up to {best:g}, and objectives.sts.highest is "
                    f"{sts.highest:g}; set that to the best possible score"
                )


def open_tasks(
    stores: Mapping[str, tuple[Config, Store]], answers: Mapping[str, Answers], mesh: Mesh
) -> list[RunTask]:
    """The tasks of a run, the main one first.

    Args:
      answers: what the frozen encoders say to each task's text.

    Raises:
      UserError: a task has too little text.
    """
    languages = tuple(sorted({code for _, store in stores.values() for code in store.languages}))
    tokenizer = load_tokenizer(stores[MAIN][1].tokenizer_path)
    tasks = []
    for name, (config, store) in stores.items():
        taught, hard = answers[name]
        masks_words = config.objectives.tokens.maskable == "words"
        maskable = tokenizer.maskable() if masks_words else np.ones(tokenizer.vocab_size, bool)
        local = local_rows(mesh, config.train.batch_size)
        with naming(name):
            batches = make_batches(
                config, store, maskable, taught, local, hard=hard, languages=languages
            )
        tasks.append(RunTask(name, config, store, languages, batches, taught))
    return tasks


def make_batches(
    config: Config,
    store: Store,
    maskable: np.ndarray,
    teacher: SentenceVectors | None = None,
    local: np.ndarray | None = None,
    *,
    hard: np.ndarray | None = None,
    languages: Sequence[str] = (),
) -> Batches:
    """This process's share of the training batches of a task.

    Args:
      local: places of a batch that this process fills; None: all.
      hard: the hard negatives of every row.
      languages: codes of the run, by the numbers that batches have; empty: those of the store.

    Raises:
      UserError: the pairs do not fill one batch; with `batch_languages=single`, those of one
        language pair do not.
    """
    languages = list(languages) or store.languages
    groups = Groups(
        np.array([group["weight"] for group in store.groups], float),
        np.array([list(map(languages.index, g["languages"])) for g in store.groups]),
    )
    batches = Batches(
        store.train,
        groups,
        config.train,
        config.model,
        maskable=maskable,
        teacher=teacher,
        negatives=hard,
        local=local,
    )
    if not batches.steps_per_epoch:
        raise UserError(
            f"{batches.rows_per_epoch} training pairs do not fill one batch of "
            f"train.batch_size={config.train.batch_size}; use a smaller batch or more text"
        )
    rows, size = batches.pair_rows, config.train.batch_size
    few = (rows > 0) & (rows < size)
    if batches.is_single and not batches.is_padded and few.any():
        names = np.array(pair_names(batches, languages))
        raise UserError(
            "train.batch_languages=single: these language pairs have fewer training pairs an epoch "
            f"than train.batch_size={size} and would never be seen: "
            + ", ".join(f"{name} ({n})" for name, n in zip(names[few], rows[few], strict=True))
            + ". Use a smaller batch, a higher train.sampling_temperature, "
            "train.pad_last=duplicate or train.batch_languages=mixed"
        )
    return batches


def pair_names(batches: Batches, languages: Sequence[str]) -> list[str]:
    """Names such as `en-fr` of the language pairs that `batches.pair_counts` counts."""
    return ["-".join(languages[i] for i in pair) for pair in batches.pairs]


def dev_batches(task: RunTask, taught: SentenceVectors | None) -> Batches:
    """A task's development pairs, as `make_batches` has those it is trained on: each once, and
    without hard negatives.

    Args:
      taught: the teacher's vectors of these pairs.

    Raises:
      UserError: they do not fill one batch.
    """
    train, seen = task.config.train, task.batches
    batches = Batches(
        task.store.dev,
        Groups(np.ones(len(seen.languages)), seen.languages),
        dataclasses.replace(train, sampling_temperature=1.0, pad_last="drop"),
        task.config.model,
        maskable=seen.maskable,
        teacher=taught,
        local=seen.local,
    )
    if not batches.steps_per_epoch:
        raise UserError(
            f"train.best=loss: {task.store.dev.rows} development pairs do not fill one batch of "
            f"train.batch_size={train.batch_size}; use a larger corpus.dev_share, or leave "
            "train.best out"
        )
    return batches


def objectives_of(
    task: RunTask, vocab_size: int, teacher_width: int
) -> tuple[ObjectivesConfig, nnx.GraphDef]:
    """What `combine.loss` is told of a task and its model."""
    config, objectives = task.config, task.config.objectives
    if config.mesh.model > 1:  # blocks cut across what each device holds of the vocabulary table
        whole = {
            name: dataclasses.replace(term, vocab_block=0)
            for name, term in objectives.active().items()
            if hasattr(term, "vocab_block")
        }
        objectives = dataclasses.replace(objectives, **whole)
    heads = heads_of(objectives, len(task.languages), teacher_width)
    return objectives, models.structure(config.model, vocab_size, heads)


def make_gradient(task: RunTask, vocab_size: int, teacher_width: int) -> Callable:
    """The function that gives a task's loss and gradients, see `micro_batch.value_and_grad`."""
    objectives, graphdef = objectives_of(task, vocab_size, teacher_width)
    return value_and_grad(objectives, graphdef, task.config.train.micro_batch)


def interleave(
    tasks: Sequence[RunTask], turns: Turns, start: int, stop: int
) -> Iterator[tuple[int, Batch]]:
    """The task's number and the batch of each of the steps start ... stop - 1 (from 0)."""
    spans = zip(tasks, turns.counts(start), turns.counts(stop), strict=True)
    sources = [
        task.batches.iterate(int(first), int(last)) if last > first else iter(())
        for task, first, last in spans
    ]
    for number in turns.steps(start, stop):
        yield number, next(sources[number])
