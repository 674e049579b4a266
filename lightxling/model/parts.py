"""Parameters of a run: one encoder, and heads for every task.

    {"encoder": ..., "token_head": ..., "tasks": {"nli": {"inference": ...}, ...}}

The heads of the main task stand beside the encoder, so that a run with one task has the parameters
of that task's model. The part of the others has that form too: {"encoder": ..., "inference": ...}.
"""

from typing import Any

import jax

from lightxling.config.plan import MAIN
from lightxling.model.build import ParamTree

ENCODER, TASKS = "encoder", "tasks"


def own(tree: Any, name: str) -> Any:
    """What a task trains: its part of the parameters, or of an optimizer's state, in which trees of
    the same form stand for moments. Leaves may be missing: those that do not learn."""

    def of(node):
        if not _is_params(node):
            return node
        if name == MAIN:
            return {key: value for key, value in node.items() if key != TASKS}
        encoder = {key: value for key, value in node.items() if key == ENCODER}
        return encoder | node.get(TASKS, {}).get(name, {})

    return jax.tree.map(of, tree, is_leaf=_is_params)


def put(tree: Any, changed: Any, name: str) -> Any:
    """`tree` with a task's part replaced by `changed`; the heads of other tasks stay."""

    def into(node, new):
        if not _is_params(node):
            return new
        if name == MAIN:
            return {**node, **new}
        encoder = {key: value for key, value in new.items() if key == ENCODER}
        heads = {key: value for key, value in new.items() if key != ENCODER}
        tasks = node.get(TASKS, {}) | ({name: heads} if heads else {})
        return node | encoder | ({TASKS: tasks} if tasks else {})

    return jax.tree.map(into, tree, changed, is_leaf=_is_params)


def heads(params: ParamTree) -> dict[str, Any]:
    """Encoder and heads by name, such as "tasks.nli.inference": `base.tree.nest` is the inverse."""
    flat = {key: value for key, value in params.items() if key != TASKS}
    for task, own in params.get(TASKS, {}).items():
        flat |= {f"{TASKS}.{task}.{key}": value for key, value in own.items()}
    return flat


def _is_params(node: Any) -> bool:
    return isinstance(node, dict)  # the states of optax are tuples
