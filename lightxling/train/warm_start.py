"""Starting a run from the parameters of another (`train.init_from`).

The encoder is taken whole, so its architecture and tokenizer must be the same; the languages need
not be: it knows none. A head is taken whole where its shapes fit, and starts afresh otherwise. The
rows of a language table go by the code of the language, and new languages have new rows.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from lightxling.bundle import Run, read_run, read_run_params
from lightxling.config import Config, UserError
from lightxling.model.build import Params
from lightxling.model.parts import heads, nest

FREE = {"dropout", "init", "identical_layers", "compute_dtype"}
"""Settings of the model that may differ: they are not part of the function that was learnt."""

LANGUAGE_TABLE = "languages"


def read_origin(config: Config) -> Run:
    """The run that `train.init_from` names; nothing large is read.

    Raises:
      UserError: it is no run, or its encoder is not the one that `config.model` describes.
    """
    folder = config.train.init_from
    if not (Path(folder) / "config.json").is_file():
        raise UserError(
            f"train.init_from={folder} is not the folder of a run: no config.json there"
        )
    run = read_run(Path(folder))
    theirs, ours = dataclasses.asdict(run.config.model), dataclasses.asdict(config.model)
    differing = [key for key in ours if key not in FREE and ours[key] != theirs[key]]
    if differing:
        table = "\n".join(
            f"  model.{key}: {theirs[key]!r} there, {ours[key]!r} here" for key in differing
        )
        raise UserError(
            f"the encoder of train.init_from={folder} is another one:\n{table}\n"
            "give the settings of that run"
        )
    return run


def shapes(tree: Params) -> dict[str, tuple[int | str, ...]]:
    """Name -> shape of every leaf, in which the rows of a language table may be any number."""
    named = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        rows = ("any",) if path[-1].key == LANGUAGE_TABLE else leaf.shape[:1]
        named[jax.tree_util.keystr(path)] = rows + leaf.shape[1:]
    return named


def warm_start(
    origin: Run, params: Params, languages: Sequence[str], say: Callable[[str], None]
) -> Params:
    """Fresh parameters with those of `origin`'s best checkpoint in place of what fits.

    Args:
      params: fresh ones; the result has their shapes and shardings.
      languages: codes of the new corpus, in the order of its language table.
      say: told which parts are taken.

    Raises:
      UserError: the checkpoint is damaged, or the encoder has another vocabulary.
    """
    trained, started, told = heads(read_run_params(origin, "best")), {}, []
    for path, fresh in heads(params).items():
        part = "/".join(path)
        ours, theirs = shapes(fresh), shapes(trained.get(path, {}))
        if ours == theirs:
            told.append(part)
            taken = dict(trained[path])
            if LANGUAGE_TABLE in taken:
                table, known = np.array(fresh[LANGUAGE_TABLE]), origin.languages
                for row, code in enumerate(languages):
                    if code in known:
                        table[row] = taken[LANGUAGE_TABLE][known.index(code)]
                taken[LANGUAGE_TABLE] = table
            started[path] = jax.tree.map(
                lambda new, old: jax.device_put(np.asarray(new), old.sharding), taken, fresh
            )
        elif part == "encoder":
            name = next(key for key in ours if ours[key] != theirs.get(key))
            raise UserError(
                f"{part}{name} is {theirs.get(name)} in train.init_from={origin.path} and "
                f"{ours[name]} here; its tokenizer.model does not belong to its checkpoints"
            )
        else:
            started[path] = fresh
            told.append(f"a fresh {part}")
    new = [code for code in languages if code not in origin.languages]
    say(
        f"starting from {origin.path}: {', '.join(told)}"
        + (f"; new languages: {', '.join(new)}" if new else "")
    )
    return nest(started)
