"""The settings of the objectives: what each reads, and its numbers."""

import dataclasses
from typing import Any, Literal

from lightxling.config.objective import Objective, widened
from lightxling.config.settings import Fraction, FromZero, Positive


@dataclasses.dataclass(frozen=True)
class TokensConfig(Objective):
    """Generative task on the pooled vector: UGT, or its parts SMLM and XTR (ACL 2021)."""

    weight: FromZero[float] = 1.0
    kind: Literal["ugt", "xtr", "smlm"] = "ugt"
    """Words of the translation and a masked word, or either alone (xtr, smlm)."""
    duplicates: Literal["fill", "count", "uniform"] = "fill"
    """Mass of a repeated piece. fill: 1/n once; count: count/n; uniform: 1/distinct."""
    mlm_overwrite: bool = True
    """Replace a masked word's mass, not add to it. That is where the word stands in the other
    sentence too."""
    xtr_from: Literal["masked", "original"] = "masked"
    """What the other side rebuilds of a masked sentence."""
    mask_inputs: bool = True
    """Encode the pair with one piece masked. It is masked on one side only, which a contrastive
    term beside this one may learn to tell from the other (docs/results.md). False (kind xtr only):
    nothing is masked, and `xtr_from` and `maskable` have no effect."""
    maskable: Literal["words", "all"] = "words"
    """Pieces that masking chooses from: words, or all of them, punctuation too."""
    language_width: FromZero[int] = 0
    """Width of the embedding of the language to be predicted (EMS); 0: none. The head sees it
    beside the sentence vector."""
    decoder: Literal["tied", "untied"] = "tied"
    """Vocabulary table of the head: the encoder's embeddings, or one of its own (EMS)."""
    transform: bool = True
    """Put a layer, its activation and a LayerNorm between the sentence vector and the logits.
    False: the sentence vector is multiplied with the table (`has_FC` in the code of ACL 2021)."""
    decoder_bias: bool = True
    """Give the vocabulary logits a bias."""
    vocab_block: FromZero[int] = 8192
    """Vocabulary rows per block of logits, to save memory; 0: all. Changes nothing else."""


@dataclasses.dataclass(frozen=True)
class MlmConfig(Objective):
    """Masked language modelling, position by position (BERT): for one language's text, from which
    the other objectives learn nothing. Its head is the token head."""

    reads = ""
    sees_all_sentences = True

    share: Fraction[float] = 0.15
    """Share of a sentence's pieces that are predicted: rounded, at least one."""
    mask: FromZero[float] = 0.8
    """Share of those that the encoder sees as `<MASK>`."""
    random: FromZero[float] = 0.1
    """Share of those that it sees as any other piece; the rest stay as they are."""
    vocab_block: FromZero[int] = 8192
    """Vocabulary rows per block of logits, to save memory; 0: all. Changes nothing else."""


@dataclasses.dataclass(frozen=True)
class AlignConfig(Objective):
    """Contrastive task: a sentence finds its translation among the batch. Of rows with further
    sentences (`en-fr-fr=FILE`), these are wrong answers too, to every first one of the batch."""

    sees_all_sentences = True
    takes_negatives = True
    takes_any_width = True

    weight: FromZero[float] = 2.0
    directions: Literal["both", "forward"] = "both"
    """Who looks for its translation: both sides, or the first only (half the loss)."""
    similarity: Literal["dot", "cosine"] = "dot"
    """How two vectors are compared."""
    temperature: Positive[float] = 1.0
    """The similarities are divided by it."""
    margin: float = 0.0
    """Subtracted from the similarity of the true pair, before the temperature (additive margin
    softmax)."""
    projection: FromZero[int] = 0
    """Width of projections that are compared instead of the sentence vectors; 0: none. They are
    Linear-ReLU-Linear, and exist in training only."""
    exclude_equal: bool = False
    """Leave sentences with equal text out of the denominator. They are no wrong answers: what has
    the text of the right one, or of the sentence itself, or stands beside a sentence of its
    text."""
    after_head: bool = False
    """Compare what the layer of the token head makes of the vectors, not the vectors themselves
    (`sentloss_before_fc=False` in the code of ACL 2021). An encoder in use has no head."""


@dataclasses.dataclass(frozen=True)
class SimilarityConfig(Objective):
    """Both languages should see the same similarities within the batch (ACL 2021, section 3)."""

    takes_any_width = True

    weight: FromZero[float] = 2.0
    reduction: Literal["sum", "mean"] = "sum"
    """Over the cells of the similarity matrix."""
    eps: Positive[float] = 1e-5
    """Floor of 1 - |P1 - P2| inside the logarithm; bounds the gradient at about 1/eps."""
    after_head: bool = False
    """As in objectives.align."""


@dataclasses.dataclass(frozen=True)
class SoftConfig(Objective):
    """Soft labels: the similarities that a teacher sees within a batch become the targets for those
    across languages (IMASCL). Needs `teacher.source`, unless the labels are hard."""

    takes_any_width = True

    labels: Literal["priority", "average", "left", "right", "hard"] = "priority"
    """Which sides the teacher reads. It is the one whose language comes first in
    `teacher.priority`, both (average), always the first or always the second; hard: none, a
    sentence is like its translation only."""
    loss: Literal["cross-entropy", "mse"] = "cross-entropy"
    """How similarities are compared. mse: the squared difference of the two matrices, a
    baseline."""
    targets: Literal["softmax", "raw"] = "softmax"
    """Labels are the softmax of the teacher's cosines, or the cosines as they are."""
    temperature: Positive[float] = 0.1
    """The student's cosines are divided by it."""
    teacher_temperature: FromZero[float] = 0.0
    """The teacher's cosines are divided by it; 0: the same as `temperature`."""
    cross: float = 1.0
    """Weight of the cross-lingual part (lambda); the monolingual part has weight 1."""
    tcm: bool = False
    """Add the monolingual part: similarities within each language."""
    tcm_double: bool = True
    """Count the monolingual part twice, as the released code does."""
    margin: float = 0.0
    """Subtracted from the student's cosine where the teacher's is above 0.95."""
    exclude_equal: bool = False
    """labels=hard: as in objectives.align. A teacher sees by itself what is equal."""
    released: bool = False
    """Let `targets`, `cross` and `tcm` count for every loss and all labels, as in the released
    code. mse then is the sum of both directions, twice what it is otherwise, and hard labels may go
    through a softmax. False: mse compares cosines across languages, and hard labels stay 0 and
    1."""

    def taught_sides(self, pivot: int) -> set[int]:
        sides = {"priority": {pivot}, "average": {0, 1}, "left": {0}, "right": {1}, "hard": set()}
        return sides[self.labels]


@dataclasses.dataclass(frozen=True)
class RegressionConfig(Objective):
    """Both languages' vectors should equal the teacher's vector of the side whose language comes
    first in `teacher.priority` (mean squared error, as in sentence-transformers). A learned linear
    map stands between where the widths differ."""

    def taught_sides(self, pivot: int) -> set[int]:
        return {pivot}


@dataclasses.dataclass(frozen=True)
class PivotConfig(Objective):
    """One language of a pair comes to the other, whose vectors the frozen encoder
    `teacher.source` gives (modular encoders). Only the former is encoded in training; the dev P@1
    is between the two encoders."""

    loss: Literal["contrastive", "cosine", "cosine-squared"] = "contrastive"
    """What is minimised. contrastive: a sentence finds its pair among the batch, from a side drawn
    at random; cosine: 1 - cos of the pair; cosine-squared: its square."""
    temperature: Positive[float] = 0.05
    """contrastive: the cosines are divided by it."""
    exclude_equal: bool = False
    """contrastive: leave sentences with equal text out of the denominator, as objectives.align
    does."""

    def taught_sides(self, pivot: int) -> set[int]:
        return {pivot}


@dataclasses.dataclass(frozen=True)
class EseConfig(Objective):
    """Lower layers and leading dimensions should serve as vectors too (ESE): an encoder that is cut
    with `lightxling export --layers N --leading D` after the training."""

    dimensions: Positive[int] = 128
    """Leading dimensions that are trained to stand alone; fewer than the model's width."""
    compression: FromZero[float] = 1.0
    """Weight of learn-to-compress: leading dimensions take over principal features of all. 0: they
    learn from the objectives alone, as in Matryoshka representation learning."""
    temperature: Positive[float] = 1.0
    """Of the distributions over dimensions that learn-to-compress compares."""
    published_index: bool = False
    """Count layers as the published code does. It trains the output of the embeddings and leaves
    out the last layer but one."""


@dataclasses.dataclass(frozen=True)
class RankingConfig(Objective):
    """A sentence ranks the sentences of the other side: translations, or responses to an input
    (multi-task dual encoder). Of rows with further sentences (`en-fr-fr=FILE`), these are wrong
    answers too: to their own first one, or to every (`shared_negatives`)."""

    sees_all_sentences = True
    takes_negatives = True

    direction: Literal["backward", "forward", "both"] = "backward"
    """Which side looks for the other. backward: the second for the first, P(source | target) as
    published; forward: the first for the second; both: the sum."""
    head: FromZero[int] = 0
    """Width of the hidden layer of the head on the side that is looked for; 0: no head. Responses
    have one, 320 as published; translations have none."""
    similarity: Literal["dot", "cosine"] = "dot"
    """How two vectors are compared."""
    scale: Positive[float] = 1.0
    """The similarities are multiplied by it."""
    margin: float = 0.0
    """Subtracted from the similarity of the true pair, before the scale."""
    exclude_positive: bool = False
    """Leave the true pair out of the denominator, as the paper prints it."""
    negatives: FromZero[int] = 0
    """Hard negatives of each sentence: similar but wrong ones, found with `mined_by`."""
    mined_by: str = ""
    """A run or export of lightxling, whose nearest neighbours become the hard negatives."""
    mined_among: FromZero[int] = 65_536
    """Sentences, drawn at random, that hard negatives are looked for among; 0: all. The time of the
    search is proportional to it."""
    shared_negatives: bool = False
    """Let every sentence compete with the hard negatives of the whole batch, not only its own."""
    exclude_equal: bool = False
    """Leave sentences with equal text out of the denominator, as in objectives.align."""


@dataclasses.dataclass(frozen=True)
class QuickThoughtConfig(Objective):
    """A sentence of running text ranks the sentences before and after it (multi-task dual
    encoder)."""

    reads = "text"
    sees_all_sentences = True

    hidden: Positive[int] = 320
    """Width of the hidden layers of its three heads."""
    exclude_equal: bool = False
    """Leave sentences with equal text out of the denominator, as in objectives.align."""


@dataclasses.dataclass(frozen=True)
class InferenceConfig(Objective):
    """Entailment, neutral or contradiction, from both vectors, their difference and their product
    (multi-task dual encoder)."""

    reads = "labels"

    hidden: Positive[int] = 512
    """Width of the layer before the softmax."""


@dataclasses.dataclass(frozen=True)
class StsConfig(Objective):
    """The cosine of two sentences should be their similarity score (mean squared error, as in
    sentence-transformers)."""

    reads = "scores"

    highest: Positive[float] = 5.0
    """The score of two sentences that mean the same; 0 is the lowest."""


@dataclasses.dataclass(frozen=True)
class ObjectivesConfig:
    """The loss is the weighted sum; weight 0 leaves a term (and its head) out."""

    tokens: TokensConfig = TokensConfig()
    mlm: MlmConfig = MlmConfig()
    align: AlignConfig = AlignConfig()
    similarity: SimilarityConfig = SimilarityConfig()
    soft: SoftConfig = SoftConfig()
    regression: RegressionConfig = RegressionConfig()
    pivot: PivotConfig = PivotConfig()
    ese: EseConfig = EseConfig()
    ranking: RankingConfig = RankingConfig()
    quick_thought: QuickThoughtConfig = QuickThoughtConfig()
    inference: InferenceConfig = InferenceConfig()
    sts: StsConfig = StsConfig()

    def active(self) -> dict[str, Objective]:
        """Name -> settings of the objectives that count."""
        terms = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: term for name, term in terms.items() if term.weight}

    @property
    def taught(self) -> list[str]:
        """Names of those that need a teacher."""
        return [n for n, term in self.active().items() if term.taught_sides(0)]


def with_terms(objectives: ObjectivesConfig, **terms: Any) -> ObjectivesConfig:
    """Objectives with others in their places; those with new names are a recipe's own.

        with_terms(load("light").objectives, sigmoid=SigmoidConfig(weight=1.0))

    Raises:
      UserError: an own objective cannot be used, see `objective.widened`.
    """
    names = [field.name for field in dataclasses.fields(objectives)]
    own = {name: type(term) for name, term in terms.items() if name not in names}
    if not own:
        return dataclasses.replace(objectives, **terms)
    before = {name: getattr(objectives, name) for name in names}
    base = {field.name for field in dataclasses.fields(ObjectivesConfig)}
    kinds = {name: type(term) for name, term in before.items() if name not in base} | own
    return widened(ObjectivesConfig, kinds)(**(before | terms))


def only(**terms: Any) -> ObjectivesConfig:
    """These objectives and no other, as in `only(inference=InferenceConfig(weight=1.0))`."""
    fields = dataclasses.fields(ObjectivesConfig)
    none = {field.name: dataclasses.replace(field.default, weight=0.0) for field in fields}
    return with_terms(ObjectivesConfig(**none), **terms)


NOTHING = only()
