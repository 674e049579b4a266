"""The trained encoders that the tasks of a run ask, once for every sentence that they need: a
teacher, and the one that finds hard negatives. What they say is kept beside the stores."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from lightxling.config.plan import naming, tasks_of
from lightxling.config.schema import Config
from lightxling.corpus.store import Store
from lightxling.corpus.vectors import FrozenEncoder, SentenceVectors
from lightxling.train import negatives
from lightxling.train import teacher as teachers


class Frozen(NamedTuple):
    """The encoders that a task asks, where it asks any."""

    teacher: FrozenEncoder | None
    miner: FrozenEncoder | None


class Answers(NamedTuple):
    """What they say to the training text of a task."""

    taught: SentenceVectors | None
    hard: np.ndarray | None
    """The hard negatives of every row."""


def find_frozen(config: Config) -> dict[str, Frozen]:
    """Those of every task, checked before anything expensive."""
    frozen = {}
    for name, task in tasks_of(config).items():
        with naming(name):
            frozen[name] = Frozen(teachers.find_teacher(task), negatives.find_miner(task))
    return frozen


def digests(frozen: Mapping[str, Frozen]) -> dict[str, Any]:
    """What a run depends on beyond its settings: the teacher's sha256, and by task those of the
    encoders that found the hard negatives."""
    teachers_found = [one.teacher.sha256 for one in frozen.values() if one.teacher]
    return {
        "teacher": next(iter(teachers_found), None),
        "miners": {name: one.miner.sha256 for name, one in frozen.items() if one.miner},
    }


def ask(
    config: Config, store: Store, frozen: Frozen, progress: Callable[[str], None] = print
) -> Answers:
    """The answers to a task's text, computed where they are not on the disk, maybe for hours."""
    taught = hard = None
    if frozen.teacher:
        taught = teachers.sentence_vectors(config, store, frozen.teacher, progress=progress)
    if frozen.miner:
        hard = negatives.sentence_negatives(config, store, frozen.miner, progress=progress)
    return Answers(taught, hard)
