"""Starting a run from the parameters of another, or of an export (`train.init_from`).

The encoder is taken whole with its adapters, so its architecture and tokenizer must be the same;
the languages need not be: it knows none. Adapters and layers that it does not have are added: they
start as nothing. So do a learnt pooling, in an encoder that has the mean, and learnt positions, in
one that has none. A head is taken whole where its shapes fit, and starts afresh otherwise. The rows
of a language table go by the code of the language, and new languages have new rows.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.files import read_json
from lightxling.base.places import DESCRIPTION, locate, other_names
from lightxling.base.tree import flatten, nest
from lightxling.config.schema import Config, ModelConfig
from lightxling.model import parts
from lightxling.model.build import ParamTree
from lightxling.model.growth import grow
from lightxling.model.params import FREE, dequantize, shapes
from lightxling.saved.bundle import Run, load_bundle, read_run, read_run_params
from lightxling.saved.sentence_transformers import is_sentence_transformers
from lightxling.train.freeze import join_params

LANGUAGE_TABLE = "languages"
LEARNT = ("weighted", "attention")
"""Poolings that start as the mean."""
OF_LAYERS = ("heads", "feedforward", "activation")
"""Settings of the model that say nothing of an encoder without layers."""


@dataclasses.dataclass(frozen=True)
class Export:
    """An export to start from; it has no heads."""

    path: Path
    model: ModelConfig
    languages: tuple[str, ...]
    params: ParamTree


def read_origin(config: Config) -> Run | Export:
    """The run or export that `train.init_from` names; of a run nothing large is read.

    Raises:
      UserError: it is neither, or its encoder is not the one that `config.model` describes.
    """
    folder = config.train.init_from
    place = locate(folder)
    is_other = is_sentence_transformers(place)
    if not (is_other or (place / DESCRIPTION).is_file()):
        raise UserError(
            f"train.init_from={folder} is not the folder of a run: no {DESCRIPTION} there; "
            f"{other_names(place)}"
        )
    if not is_other and "config" in read_json(place / DESCRIPTION):
        origin = read_run(place)
        model = origin.config.model
    else:
        bundle = load_bundle(folder)
        model, params = bundle.config, dequantize(bundle.params)
        if "projection" in params:
            raise UserError(
                f"the vectors of train.init_from={folder} were shortened to {bundle.dimension}; "
                "start from an export without --dimensions"
            )
        origin = Export(Path(folder), model, bundle.languages, {"encoder": nest(params)})
    refuse_other_encoder(model, config.model, folder)
    return origin


def refuse_other_encoder(theirs: ModelConfig, ours: ModelConfig, folder: str) -> None:
    """Refuses to start one encoder from another that it does not hold.

    Raises:
      UserError: names the settings of the model, or the adapter.
    """
    there, here = dataclasses.asdict(theirs), dataclasses.asdict(ours)
    may_differ = {*FREE, "adapters"}  # which are compared one by one
    if theirs.pooling == "mean" and ours.pooling in LEARNT:
        may_differ.add("pooling")
    if not (theirs.layers or ours.layers):
        may_differ |= set(OF_LAYERS)
    if ours.positions and not (theirs.positions or ours.sinusoidal):
        may_differ.add("positions")
    if theirs.layers < ours.layers:
        may_differ |= {"layers", *(() if theirs.layers else OF_LAYERS)}
        if not (theirs.layers or there.get("embedding_norm", True)):
            raise UserError(
                f"train.init_from={folder} has model.embedding_norm=False and no layers, and a "
                "layer would normalise its vectors; start from a bag with model.embedding_norm=True"
            )
    differing = [key for key in here if key not in may_differ and here[key] != there[key]]
    if differing:
        table = "\n".join(
            f"  model.{key}: {there[key]!r} there, {here[key]!r} here" for key in differing
        )
        way_out = "give the settings of that run"
        if differing == ["layers"]:
            way_out += "; an encoder gets fewer layers with lightxling export --layers"
        raise UserError(
            f"the encoder of train.init_from={folder} is another one:\n{table}\n{way_out}"
        )
    for adapter in theirs.adapters:
        if adapter not in ours.adapters:
            names = [one.name for one in ours.adapters]
            what = "is another one here" if adapter.name in names else "is missing here"
            raise UserError(
                f"the adapter {adapter.name!r} of train.init_from={folder} {what}; model.adapters "
                f"should hold {adapter}"
            )


def origin_model(origin: Run | Export) -> ModelConfig:
    return origin.model if isinstance(origin, Export) else origin.config.model


def taken_parameters(origin: Run | Export | None) -> frozenset[str]:
    """Names of the parameters of the encoder that come from the start, such as
    `encoder.blocks.0.out.kernel`."""
    if origin is None:
        return frozenset()
    model = origin_model(origin)
    return frozenset(f"encoder.{name}" for name in shapes(model, 1, model.width))


def describe_origin(origin: Run | Export, config: Config) -> dict[str, Any]:
    """What config.json keeps of the start."""
    layers = origin_model(origin).layers
    return {"path": str(origin.path), "layers": layers, "new_layers": config.model.layers - layers}


def comparable_shapes(tree: ParamTree) -> dict[str, tuple[int | str, ...]]:
    """Name -> shape of every leaf, in which the rows of a language table may be any number."""
    named = {}
    for name, leaf in flatten(tree).items():
        rows = ("any",) if name.split(".")[-1] == LANGUAGE_TABLE else leaf.shape[:1]
        named[name] = rows + leaf.shape[1:]
    return named


def warm_start(
    origin: Run | Export, params: ParamTree, languages: Sequence[str], say: Callable[[str], None]
) -> ParamTree:
    """Fresh parameters with those of `origin`'s best checkpoint in place of what fits.

    Args:
      params: fresh ones; the result has their shapes and shardings.
      languages: codes of the new corpus, in the order of its language table.
      say: told which parts are taken.

    Raises:
      UserError: the checkpoint is damaged, or the encoder has another vocabulary.
    """
    whole = origin.params if isinstance(origin, Export) else read_run_params(origin, "best")
    fresh, taken = params["encoder"], whole["encoder"]
    new_adapters = fresh.get("adapters", {}).keys() - taken.get("adapters", {}).keys()
    layers, new_layers = (len(tree.get("blocks", {})) for tree in (taken, fresh))
    new_layers -= layers
    whole["encoder"] = join_params(taken, fresh)  # what it does not have stays as it is drawn
    new_positions = "positions" in fresh and "positions" not in taken
    if new_positions:
        whole["encoder"]["positions"] = np.zeros_like(np.asarray(fresh["positions"]))
    if new_layers > 0:
        whole["encoder"] = grow(whole["encoder"], layers)
    trained, started, told = parts.heads(whole), {}, []
    for path, fresh in parts.heads(params).items():
        part = path.replace(".", "/")
        ours, theirs = comparable_shapes(fresh), comparable_shapes(trained.get(path, {}))
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
                f"{part}.{name} is {theirs.get(name)} in train.init_from={origin.path} and "
                f"{ours[name]} here; its tokenizer.model does not belong to its checkpoints"
            )
        else:
            started[path] = fresh
            told.append(f"a fresh {part}")
    new = [code for code in languages if code not in origin.languages]
    say(
        f"starting from {origin.path}: {', '.join(told)}"
        + (f"; new languages: {', '.join(new)}" if new else "")
        + (f"; new adapters: {', '.join(sorted(new_adapters))}" if new_adapters else "")
        + (f"; new layers after {layers}: {new_layers}, start as nothing" if new_layers else "")
        + ("; positions, start as nothing" if new_positions else "")
    )
    return nest(started)
