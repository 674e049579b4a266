"""What a training step is given, by name, from the corpus to the loss."""

from typing import Any, NamedTuple

from lightxling.base.shapes import Float, Int


class Batch(NamedTuple):
    """B rows of one padded length, in arrays of numpy or of jax; ids are 0 beyond the sentence.

    What a run has none of is None.
    """

    tokens: Int[Any, "B S L"]
    """S sentences a row: a pair and its hard negatives, three in a row of a text, or one."""
    masked: Int[Any, " B"]
    """side * L + position of the one piece to mask, in one of the first two sides."""
    languages: Int[Any, "B _"] | None = None
    """Index of each side's language among those of the run."""
    teacher: Float[Any, "B 2 T"] | None = None
    """The teacher's vectors; zeros for the sides that no objective reads."""
    pivot: Int[Any, " B"] | None = None
    """0 or 1: the side that the teacher knows best."""
    labels: Float[Any, " B"] | None = None
    """The number of the row's class, or its score."""
    ngrams: Int[Any, "B S L G"] | None = None
    """Rows of the words' n-grams in their table, 0 beyond them."""
    slots: Int[Any, "B S K"] | None = None
    """Positions that masked language modelling predicts, see `objectives.masked`."""
    answers: Int[Any, "B S K"] | None = None
    """The pieces that stood there."""
