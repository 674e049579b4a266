"""Ranking losses of the multi-task dual encoder: a sentence finds the one that belongs to it.

Letters in shapes: B rows of the global batch, K hard negatives of a row, D width.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from lightxling.config.objectives import ObjectivesConfig, QuickThoughtConfig, RankingConfig
from lightxling.model.build import Model
from lightxling.model.heads import FC, QuickThought, Sizes
from lightxling.objectives.contrast import products, unit_rows
from lightxling.objectives.term import Head, Term, TermInputs


def ranking(
    queries: Float[Array, "B D"],
    candidates: Float[Array, "B D"],
    negatives: Float[Array, "K B D"] | None = None,
    *,
    scale: float = 1.0,
    margin: float = 0.0,
    exclude_positive: bool = False,
    shared_negatives: bool = False,
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
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - right)


def quick_thought(
    sentence: Float[Array, "B D"], before: Float[Array, "B D"], after: Float[Array, "B D"]
) -> Float[Array, ""]:
    """A sentence finds both its neighbours in a text: the sum of two ranking losses, in nats.

    Source: arXiv 1810.12836, section 2; Logeswaran and Lee 2018 (arXiv 1803.02893).
    """
    return ranking(sentence, before) + ranking(sentence, after)


def ranking_term(settings: RankingConfig, model: Model, inputs: TermInputs) -> Float[Array, ""]:
    """Sum over the directions; the hard negatives of each follow the pair."""
    vectors = inputs.vectors
    if settings.similarity == "cosine":
        vectors = unit_rows(vectors)
    (src, tgt), hard = vectors[:2], vectors[2:]
    directions = {"forward": [(src, tgt)], "backward": [(tgt, src)]}
    directions["both"] = directions["forward"] + directions["backward"]
    loss = jnp.zeros(())
    for number, (queries, candidates) in enumerate(directions[settings.direction]):
        negatives = None
        if settings.negatives:
            negatives = hard[number * settings.negatives :][: settings.negatives]
        if model.response is not None:
            candidates = model.response(candidates)
            negatives = None if negatives is None else model.response(negatives)
        loss += ranking(
            queries,
            candidates,
            negatives,
            scale=settings.scale,
            margin=settings.margin,
            exclude_positive=settings.exclude_positive,
            shared_negatives=settings.shared_negatives,
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
    heads = model.quick_thought
    return quick_thought(heads.sentence(sentence), heads.before(before), heads.after(after))


def quick_thought_heads(objectives: ObjectivesConfig, sizes: Sizes, rngs: nnx.Rngs) -> QuickThought:
    return QuickThought(sizes.model.width, objectives.quick_thought.hidden, rngs)


TERMS = {
    "ranking": Term(ranking_term, Head("response", response)),
    "quick_thought": Term(quick_thought_term, Head("quick_thought", quick_thought_heads)),
}
