"""Gradients of the whole batch's loss with the activations of a few pairs at a time.

A contrastive loss needs the vectors of the whole batch, but its gradient reaches the encoder only
through them, and a vector depends on its own pair alone. So the batch is encoded piece by piece
without keeping activations, the loss is differentiated at the vectors, and every piece is encoded
once more to carry its vectors' gradient on to the parameters: a third more operations, for memory
that does not grow with the batch.

Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"
(arXiv 2101.06983), section 3.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from lightxling.base.tree import flatten, nest
from lightxling.config.objectives import ObjectivesConfig
from lightxling.corpus.batch import Batch
from lightxling.model.build import ParamTree, merge, parameters
from lightxling.objectives import combine
from lightxling.objectives.term import EncodedBatch
from lightxling.train.freeze import join_params

NO_PARAMS: ParamTree = {}


def split_batch(batch: Batch, micro_batch: int) -> Batch:
    """Leaves [B, ...] as [B / micro_batch, micro_batch, ...]: piece i holds rows i, i + n, ...

    Neighbours go to different pieces, so that rows split over devices stay where they are: every
    device has its share of every piece.
    """

    def pieces(x):
        return x.reshape(micro_batch, -1, *x.shape[1:]).swapaxes(0, 1)

    return jax.tree.map(pieces, batch)


def join_pieces(pieces: EncodedBatch) -> EncodedBatch:
    """Leaves [n, N, S, m, D] of all pieces as [N, S, B, D], in the order of the batch."""

    def whole(x):
        return jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-2], -1, x.shape[-1])

    return jax.tree.map(whole, pieces)


def split_encoded(encoded: EncodedBatch, micro_batch: int) -> EncodedBatch:
    """The inverse of `join_pieces`."""

    def pieces(x):
        *sides, _, D = x.shape
        return jnp.moveaxis(x.reshape(*sides, micro_batch, -1, D), -2, 0)

    return jax.tree.map(pieces, encoded)


def common(params: Mapping, like: Mapping) -> dict:
    """The leaves of `params` that `like` has too."""
    leaves = flatten(params)
    return nest({name: leaves[name] for name in flatten(like)})


def value_and_grad(
    objectives: ObjectivesConfig, graphdef: nnx.GraphDef, micro_batch: int = 0
) -> Callable[
    [ParamTree, Batch, PRNGKeyArray | None, ParamTree],
    tuple[tuple[Float[Array, ""], combine.TermValues], ParamTree],
]:
    """Returns `f(trained, batch, key, frozen) -> ((loss, terms), gradients)` of `combine.loss`.

    The gradients are those of the parameters `trained`; `frozen` are the other ones (`freeze`).

    Args:
      micro_batch: pairs encoded at once, a divisor of the batch and, where the batch is split over
        devices, a multiple of their number. 0: the whole batch. It changes which dropout is drawn,
        and nothing else.
    """

    def cached(
        trained: ParamTree, batch: Batch, key: PRNGKeyArray | None, frozen: ParamTree = NO_PARAMS
    ):
        if micro_batch in (0, len(batch.tokens)):

            def whole(trained):
                return combine.loss(objectives, graphdef, join_params(trained, frozen), batch, key)

            return jax.value_and_grad(whole, has_aux=True)(trained)
        full = merge(graphdef, join_params(trained, frozen))
        batch = combine.mask_batch(objectives, full, batch, key)
        pieces = split_batch(batch, micro_batch)
        numbers = jnp.arange(len(pieces.tokens))

        def encode(trained, number, piece):
            """What the encoder makes of a piece, and the parameters as it passes them on."""
            piece_key = None if key is None else jax.random.fold_in(key, number)
            model = merge(graphdef, join_params(trained, frozen))
            encoded = combine.encode_batch(objectives, model, piece, piece_key)
            return encoded, common(parameters(model), trained)

        def score(trained, encoded):
            model = merge(graphdef, join_params(trained, frozen))
            return combine.score_batch(objectives, model, batch, encoded, key)

        encoded = jax.lax.map(lambda xs: encode(trained, *xs)[0], (numbers, pieces))
        (value, terms), (grads, encoded_grads) = jax.value_and_grad(
            score, argnums=(0, 1), has_aux=True
        )(trained, join_pieces(encoded))

        def add_piece(grads, xs):
            number, piece, encoded_grad = xs
            _, backward = jax.vjp(lambda trained: encode(trained, number, piece), trained)
            # `grads` enters as the gradient of the parameters passed on: the sum is made on the
            # way, in place for the rows of the table (see `look_up_rows`)
            return backward((encoded_grad, grads))[0], None

        grads, _ = jax.lax.scan(
            add_piece, grads, (numbers, pieces, split_encoded(encoded_grads, micro_batch))
        )
        return (value, terms), grads

    return cached
