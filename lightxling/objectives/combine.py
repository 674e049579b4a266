"""The model and the loss of a run: the weighted sum of its objectives, from a batch.

A new objective is one file in this folder (`term`) and its settings in `config.ObjectivesConfig`.
"""

import functools
import importlib
import pkgutil
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from lightxling.config.objective import Objective
from lightxling.config.objectives import ObjectivesConfig
from lightxling.config.plan import tasks_of
from lightxling.config.schema import Config
from lightxling.corpus.batch import Batch
from lightxling.model.build import Heads, Model, ParamTree, initialise, merge
from lightxling.model.heads import Sizes
from lightxling.model.parts import ENCODER, put
from lightxling.objectives import distillation, masked, tokens
from lightxling.objectives.term import MASKS, EncodedBatch, Term, TermInputs

TermValues = dict[str, Float[Array, ""]]


def find_terms() -> dict[str, Term]:
    """Name -> objective, for all objectives that a file of this folder has in its `TERMS`."""
    found = {}
    for file in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if file.name != "combine":
            module = importlib.import_module(f"lightxling.objectives.{file.name}")
            found |= getattr(module, "TERMS", {})
    return found


TERMS = find_terms()


def term_of(name: str, settings: Objective) -> Term | None:
    """The loss and the head of an objective, from this folder or from the file of a recipe.

    None where it acts through others (ese), or its file was not read.
    """
    return TERMS.get(name) or settings.term


def heads_of(objectives: ObjectivesConfig, languages: int, teacher_width: int = 0) -> Heads:
    """The heads of a run's model, for `build.structure` and `build.initialise`.

    Args:
      languages: how many the run's text has, over all tasks.
      teacher_width: of the teacher's vectors; 0 without a teacher.
    """

    def make(head, model, vocab_size, rngs):
        return head.make(objectives, Sizes(model, vocab_size, languages, teacher_width), rngs)

    terms = [term_of(name, settings) for name, settings in objectives.active().items()]
    heads = [term.head for term in terms if term]
    return {head.name: functools.partial(make, head) for head in heads if head}


def initialise_tasks(
    config: Config, vocab_size: int, key: PRNGKeyArray, languages: int, teacher_width: int = 0
) -> ParamTree:
    """Fresh parameters of a run and all its tasks, see `model.parts` and `heads_of`.

    To be jitted, or given to `jax.eval_shape` for their shapes.
    """
    params: ParamTree = {}
    for number, (name, task) in enumerate(tasks_of(config).items()):
        task_key = jax.random.fold_in(key, number) if number else key
        heads = heads_of(task.objectives, languages, teacher_width)
        fresh = initialise(config.model, vocab_size, task_key, heads)
        params = put(params or fresh, {**fresh, ENCODER: (params or fresh)[ENCODER]}, name)
    return params


def mask_batch(
    objectives: ObjectivesConfig, model: Model, batch: Batch, key: PRNGKeyArray | None
) -> Batch:
    """The batch as the encoder sees it, with what masked language modelling hides and asks for.

    Drawn for the whole batch before it is cut into pieces. No key: the same positions every time.
    """
    settings = objectives.mlm
    if not settings.weight:
        return batch
    base = jax.random.key(0) if key is None else jax.random.fold_in(key, MASKS)
    slot_key, piece_key = jax.random.split(base)
    slots = masked.choose(batch.tokens, settings.share, slot_key)
    seen = masked.corrupt(
        batch.tokens,
        slots,
        piece_key,
        mask=settings.mask,
        random=settings.random,
        vocab_size=len(model.encoder.words[...]),
    )
    answers = masked.pick(batch.tokens, slots)
    return seen_as(batch, seen)._replace(slots=slots, answers=answers)


def seen_as(batch: Batch, tokens: Int[Array, "B S L"]) -> Batch:
    """The batch with these tokens, and n-grams without the letters of words that they hide."""
    ngrams = batch.ngrams
    if ngrams is not None:
        ngrams = jnp.where((tokens != batch.tokens)[..., None], 0, ngrams)
    return batch._replace(tokens=tokens, ngrams=ngrams)


def encode_batch(
    objectives: ObjectivesConfig, model: Model, batch: Batch, key: PRNGKeyArray | None
) -> EncodedBatch:
    """Sentence vectors of all sides, and the states at the slots where there are any.

    All sides are encoded in one call. The masked text is what all terms see, as in the paper
    (unless `mask_inputs` is off). A row depends on its own pair alone. The objective `pivot` has
    one side encoded only.
    """
    terms = objectives.active()
    if "tokens" in terms and objectives.tokens.mask_inputs:
        batch = seen_as(batch, tokens.apply_mask(batch.tokens, batch.masked))
    text, ngrams = batch.tokens, batch.ngrams
    if "pivot" in terms:
        rows, trained = jnp.arange(len(text)), 1 - batch.pivot
        text, ngrams = jax.tree.map(lambda x: x[rows, trained][:, None], (text, ngrams))
    B, S, L = text.shape
    text = text.reshape(B * S, L)
    ngrams = None if ngrams is None else ngrams.reshape(B * S, L, -1)

    def by_side(vectors):
        return vectors.reshape(-1, B, S, vectors.shape[-1]).swapaxes(1, 2)

    states = model.encoder.states(text, key, ngrams=ngrams)
    if "ese" in terms:
        vectors = by_side(jnp.stack([model.encoder.pool(state, text) for state in states]))
    else:
        vectors = by_side(model.encoder.pool(states[-1], text))
    if batch.slots is None:
        return EncodedBatch(vectors)
    slots = jnp.maximum(batch.slots.reshape(B * S, -1), 0)
    at_slots = jnp.take_along_axis(states[-1], slots[..., None], axis=1).swapaxes(0, 1)
    return EncodedBatch(vectors, by_side(at_slots))


def score_batch(
    objectives: ObjectivesConfig,
    model: Model,
    batch: Batch,
    encoded: EncodedBatch,
    key: PRNGKeyArray | None,
) -> tuple[Float[Array, ""], TermValues]:
    """Weighted sum of the objectives, in nats, and every term unweighted; needs the whole batch."""
    active, terms = objectives.active(), {}
    row = batch, encoded.vectors
    pair = batch._replace(tokens=batch.tokens[:, :2]), encoded.vectors[:, :2]
    for name, settings in active.items():
        if term := term_of(name, settings):
            seen, layers = row if settings.sees_all_sentences else pair
            inputs = TermInputs(seen, layers[-1], encoded.states, key)
            terms[name] = term.loss(settings, model, inputs)
    if "ese" in active:
        terms["ese"] = ese_loss(objectives, model, *pair)
    total = sum((active[name].weight * value for name, value in terms.items()), jnp.zeros(()))
    return total, terms


def ese_loss(
    objectives: ObjectivesConfig, model: Model, batch: Batch, layers: Float[Array, "N 2 B D"]
) -> Float[Array, ""]:
    """What ESE adds to the loss of the last layer.

        l(h_n[:k]) + c D(h_n) + sum_i w_i (l(h_i[:k]) + c D(h_i))

    l is the weighted sum of the objectives that take vectors of any width, D is
    `distillation.compression` over the sentences of both languages with its share c (1 in the
    paper), w `distillation.layer_weights`.

    Args:
      layers: pooled vectors h_0 (embeddings) ... h_n.
    """
    ese, last = objectives.ese, len(layers) - 1
    terms = {n: term for n, term in objectives.active().items() if term.takes_any_width}
    weights = distillation.layer_weights(last, published_index=ese.published_index)
    total = jnp.zeros(())
    for i, weight in (weights | {last: 1.0}).items():
        slim = layers[i][..., : ese.dimensions]
        for name, settings in terms.items():
            value = term_of(name, settings).loss(settings, model, TermInputs(batch, slim))
            total += weight * settings.weight * value
        if ese.compression:
            vectors = layers[i].reshape(-1, layers.shape[-1])
            divergence = distillation.compression(
                vectors, k=ese.dimensions, temperature=ese.temperature
            )
            total += weight * ese.compression * divergence
    return total


def loss(
    objectives: ObjectivesConfig,
    graphdef: nnx.GraphDef,
    params: ParamTree,
    batch: Batch,
    key: PRNGKeyArray | None,
) -> tuple[Float[Array, ""], TermValues]:
    """The loss of a batch and its terms: `score_batch` of `encode_batch`."""
    model = merge(graphdef, params)
    batch = mask_batch(objectives, model, batch, key)
    return score_batch(objectives, model, batch, encode_batch(objectives, model, batch, key), key)
