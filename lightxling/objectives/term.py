"""What an objective is to the rest: a loss of what the encoder makes of a batch, perhaps a head.

A file of this folder puts its objectives into `TERMS`, under their names in
`config.ObjectivesConfig`; what they read is said by their settings there. `combine` finds them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from lightxling.config.objectives import ObjectivesConfig
from lightxling.corpus.batch import Batch
from lightxling.model.build import Model
from lightxling.model.heads import Sizes

HEADS, MASKS, ORDER = 1 << 20, 1 << 21, 1 << 22
"""Folded into the step's key for the dropout of the heads, for masked positions and for the order
of pairs: beyond the keys that the encoder splits off."""


class EncodedBatch(NamedTuple):
    """What the encoder makes of a batch, or of some of its rows."""

    vectors: Float[Array, "*n N S B D"]
    """Sentence vectors of the last layer; under ESE those of the embeddings and every layer."""
    states: Float[Array, "*n K S B D"] | None = None
    """Of the last layer, at the slots of masked language modelling."""


class TermInputs(NamedTuple):
    """What the loss of an objective is computed from: the whole batch, S sentences a row."""

    batch: Batch
    vectors: Float[Array, "S B D"]
    states: Float[Array, "K S B D"] | None = None
    key: PRNGKeyArray | None = None
    """None: evaluation."""


def given_sides(inputs: TermInputs) -> int:
    """How many sentences a row has of its own: what comes after them was mined. ESE gives two."""
    languages = inputs.batch.languages
    return min(len(inputs.vectors), 2 if languages is None else languages.shape[1])


class Head(NamedTuple):
    """A module on top of the encoder that an objective trains along, and nothing else needs."""

    name: str
    """Its place among the parameters, and the attribute of `Model`."""
    make: Callable[[ObjectivesConfig, Sizes, nnx.Rngs], nnx.Module | None]
    """None: the settings ask for none."""


class Term(NamedTuple):
    """An objective: `loss(settings, model, inputs)`, a scalar, and its head if it has one."""

    loss: Callable[[Any, Model, TermInputs], Float[Array, ""]]
    head: Head | None = None
