"""Ranking losses of the multi-task dual encoder: a sentence finds the one that belongs to it.

Letters in shapes: B rows of the global batch, K hard negatives of a row, D width.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from lightxling.config.objectives import ObjectivesConfig, QuickThoughtConfig, RankingConfig
from lightxling.model.build import Model
from lightxling.model.heads import FC, QuickThought, Sizes
from lightxling.objectives.contrast import products, unit_rows
from lightxling.objectives.equal import leave_out, no_negatives, no_wrong_answers, text_hashes
from lightxling.objectives.term import Head, Term, TermInputs, given_sides


def ranking(
    queries: Float[Array, "B D"],
    candidates: Float[Array, "B D"],
    negatives: Float[Array, "K B D"] | None = None,
    *,
    scale: float = 1.0,
    margin: float = 0.0,
    exclude_positive: bool = False,
    shared_negatives: bool = False,
    left_out: Bool[Array, "B C"] | None = None,
) -> Float[Array, ""]:
    """Negative log-likelihood of the right candidate, by dot products.

        z_ij = scale (q_i . c_j - margin [i = j]),   w_ik = scale q_i . n_ki
        loss = -1/B sum_i log(exp(z_ii) / (sum_j exp(z_ij) + sum_k exp(w_ik)))

    Candidate i belongs to query i; the other B - 1 and the hard negatives are wrong.

    Args:
      negatives: wrong candidates that resemble the right one; n_ki is the k-th of row i.
      exclude_positive: leave j = i out of the denominator, as the paper prints it; the loss may
        then be negative.
      shared_negatives: sum over the negatives of all rows, not only over those of row i.
      left_out: what is in no denominator, of z and, beside it, of w; w has B K columns where the
        negatives are shared, those of one k beside each other.

    Returns:
      Mean loss in nats. All vectors equal, no margin, gives log(B + K) (shared: log(B + B K)).

    Source: arXiv 1810.12836, eq. 1 and 2; hard negatives: Guo et al. 2018 (arXiv 1807.11906),
    section 3.2; additive margin: Yang et al. 2019 (arXiv 1902.08564), eq. 4.
    """
    is_pair = jnp.eye(len(queries), dtype=bool)
    logits = scale * (products(queries, candidates) - margin * is_pair.astype(jnp.float32))
    right = jnp.diagonal(logits)
    if exclude_positive:
        logits = jnp.where(is_pair, -jnp.inf, logits)
    if negatives is not None:
        if shared_negatives:
            wrong = products(queries, negatives.reshape(-1, negatives.shape[-1]))
        else:
            wrong = jnp.einsum("bd,kbd->bk", queries, negatives, precision="highest")
        logits = jnp.concatenate([logits, scale * wrong], axis=1)
    logits = leave_out(logits, left_out)
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - right)


def quick_thought(
    sentence: Float[Array, "B D"],
    before: Float[Array, "B D"],
    after: Float[Array, "B D"],
    left_out: Sequence[Bool[Array, "B B"] | None] = (None, None),
) -> Float[Array, ""]:
    """A sentence finds both its neighbours in a text: the sum of two ranking losses, in nats.

    Args:
      left_out: of the sentences before and of those after.

    Source: arXiv 1810.12836, section 2; Logeswaran and Lee 2018 (arXiv 1803.02893).
    """
    first, second = left_out
    return ranking(sentence, before, left_out=first) + ranking(sentence, after, left_out=second)


def ranking_term(settings: RankingConfig, model: Model, inputs: TermInputs) -> Float[Array, ""]:
    """Sum over the directions; the hard negatives of each follow the pair."""
    vectors = inputs.vectors
    if settings.similarity == "cosine":
        vectors = unit_rows(vectors)
    texts = text_hashes(inputs.batch.tokens).swapaxes(0, 1) if settings.exclude_equal else None
    sides = {"forward": [(0, 1)], "backward": [(1, 0)], "both": [(0, 1), (1, 0)]}
    loss = jnp.zeros(())
    for number, (query, candidate) in enumerate(sides[settings.direction]):
        first = 2 + number * settings.negatives
        hard = slice(first, first + settings.negatives)
        if not settings.negatives:
            hard = slice(2, given_sides(inputs))  # none where rows are pairs
        candidates, negatives, left_out = vectors[candidate], None, None
        if hard.stop > hard.start:
            negatives = vectors[hard]
        if model.response is not None:
            candidates = model.response(candidates)
            negatives = None if negatives is None else model.response(negatives)
        if texts is not None:
            left_out = no_wrong_answers(
                texts[query], texts[candidate], texts[hard], is_shared=settings.shared_negatives
            )
        loss += ranking(
            vectors[query],
            candidates,
            negatives,
            scale=settings.scale,
            margin=settings.margin,
            exclude_positive=settings.exclude_positive,
            shared_negatives=settings.shared_negatives,
            left_out=left_out,
        )
    return loss


def response(objectives: ObjectivesConfig, sizes: Sizes, rngs: nnx.Rngs) -> FC | None:
    """The head on what is looked for, where that is a response."""
    hidden = objectives.ranking.head
    return FC(sizes.model.width, hidden, rngs) if hidden else None


def quick_thought_term(
    settings: QuickThoughtConfig, model: Model, inputs: TermInputs
) -> Float[Array, ""]:
    before, sentence, after = inputs.vectors
    heads, left_out = model.quick_thought, (None, None)
    if settings.exclude_equal:
        first, middle, last = text_hashes(inputs.batch.tokens).swapaxes(0, 1)
        left_out = no_negatives(middle, first), no_negatives(middle, last)
    return quick_thought(
        heads.sentence(sentence), heads.before(before), heads.after(after), left_out
    )


def quick_thought_heads(objectives: ObjectivesConfig, sizes: Sizes, rngs: nnx.Rngs) -> QuickThought:
    return QuickThought(sizes.model.width, objectives.quick_thought.hidden, rngs)


TERMS = {
    "ranking": Term(ranking_term, Head("response", response)),
    "quick_thought": Term(quick_thought_term, Head("quick_thought", quick_thought_heads)),
}
