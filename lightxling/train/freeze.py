"""Training some of the parameters (`train.trainable`): the others get no gradient, no decay and no
optimizer state, and are bit for bit what they were."""

import difflib
import fnmatch
from collections.abc import Mapping, Sequence

import jax

from lightxling.base.errors import UserError
from lightxling.base.tree import flatten, nest
from lightxling.config.plan import tasks_of
from lightxling.config.schema import Config
from lightxling.model.parts import own
from lightxling.objectives.combine import initialise_tasks


def is_trainable(path: str, patterns: Sequence[str]) -> bool:
    """Whether a leaf, or a part that holds it, has a name like one of the patterns.

    No patterns: everything learns.
    """
    names = path.split(".")
    parts = [".".join(names[:n]) for n in range(1, len(names) + 1)]
    return not patterns or any(
        fnmatch.fnmatchcase(part, pattern) for part in parts for pattern in patterns
    )


def split_params(params: Mapping, patterns: Sequence[str]) -> tuple[dict, dict]:
    """The leaves that learn and the others, as trees without what is not theirs."""
    trained, frozen = {}, {}
    for name, leaf in flatten(params).items():
        (trained if is_trainable(name, patterns) else frozen)[name] = leaf
    return nest(trained), nest(frozen)


def join_params(trained: Mapping, frozen: Mapping) -> dict:
    """The inverse of `split_params`."""
    return nest(flatten(frozen) | flatten(trained))


def check_trainable(config: Config) -> None:
    """Refuses patterns that name no parameter or leave a task without any; nothing is
    allocated.

    Raises:
      UserError: names the nearest parameters, or the task.
    """
    if not config.train.trainable:
        return
    # the names do not depend on these sizes, but for a map from a teacher of another width
    shapes = jax.eval_shape(
        lambda: initialise_tasks(config, 3, jax.random.key(0), 1, config.model.width + 1)
    )
    names = list(flatten(shapes))
    parts = {".".join(name.split(".")[:n]) for name in names for n in range(1, name.count(".") + 2)}
    for pattern in config.train.trainable:
        if not any(is_trainable(name, [pattern]) for name in names):
            near = difflib.get_close_matches(pattern.removesuffix(".*"), parts, n=3, cutoff=0.5)
            hint = ", ".join(near or sorted(part for part in parts if part.count(".") < 2))
            raise UserError(f"train.trainable: no parameter is called {pattern!r}; near it: {hint}")
    trained, _ = split_params(shapes, config.train.trainable)
    for task in tasks_of(config):
        if not own(trained, task):
            raise UserError(
                f"train.trainable={' '.join(config.train.trainable)} leaves the task {task} "
                f"nothing to learn; name a part of the encoder, or of tasks.{task}"
            )
