"""What picks the best checkpoint: dev P@1, or the loss on the development pairs."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lightxling.base.errors import UserError
from lightxling.corpus.batch import Batch
from lightxling.corpus.batches import bucket_lengths, by_length, gather, look_up_words
from lightxling.corpus.store import Split
from lightxling.evaluate.retrieval import precision_by_text, text_labels
from lightxling.model import build as models
from lightxling.model import parts
from lightxling.objectives import combine
from lightxling.saved import checkpoint
from lightxling.train.plan import Plan
from lightxling.train.sharding import local_rows, put_batch
from lightxling.train.state import TrainState
from lightxling.train.tasks import objectives_of


class Dev:
    """Measures a run on its development pairs, and keeps the best parameters.

    Attributes:
      scores: the last ones, see `dev_scores`; empty before the first.
    """

    def __init__(self, plan: Plan):
        store, model = plan.main.store, plan.config.model
        graphdef = models.structure(model, plan.vocab_size)
        self.encode = functools.partial(
            encode_split,
            make_encode(graphdef, plan.mesh),
            split=store.dev,
            buckets=bucket_lengths(plan.config.train.buckets, model.max_length),
            max_length=model.max_length,
            ngrams=model.ngrams,
        )
        names = np.array(["-".join(group["languages"]) for group in store.groups])
        self.pair, self.pivots = names[store.dev.group], plan.pivots
        self.texts = dev_texts(store.dev)
        self.loss = make_loss(plan) if plan.dev else None
        self.scores: dict[str, float] = {}

    def measure(self, state: TrainState, best: Path) -> tuple[TrainState, dict[str, float]]:
        """Scores the parameters, and saves them as `best` where they are.

        Returns:
          The state with the best score so far, and what metrics.jsonl gets.

        Raises:
          UserError: the encoder gives vectors that are not finite.
        """
        vectors = self.encode({"encoder": state.params["encoder"]})
        if not np.isfinite(vectors).all():
            raise UserError(
                f"step {int(state.step)}: the encoder gives vectors that are not finite; start "
                "again in another --workdir, with a lower --optimizer.learning-rate or "
                "--optimizer.clip 1"
            )
        if self.pivots:
            vectors[np.arange(len(vectors)), self.pivots.side] = self.pivots.vectors
        self.scores = dev_scores(vectors, self.pair, self.texts)
        score = self.scores["dev_p@1"]
        if self.loss:
            self.scores["dev_loss"] = self.loss(state.params)
            score = -self.scores["dev_loss"]
        if score > float(state.best):
            # in its old place: another layout of the state would compile the step once more
            best_score = jax.device_put(np.float32(score), state.best.sharding)
            state = state._replace(best=best_score)
            checkpoint.save(best, state.params)
        candidates = len(self.pair) / len(np.unique(self.pair))
        return state, self.scores | {"dev_candidates": candidates}


def make_encode(graphdef, mesh: Mesh) -> Callable:
    """`encode(params, tokens [B, L], ngrams) -> vectors [B, D]`, jitted and in evaluation mode.

    The rows are split over the devices, and every process gets all vectors; it is called with the
    same tokens in all of them.
    """
    encode = jax.jit(
        functools.partial(models.encode_tokens, graphdef), out_shardings=NamedSharding(mesh, P())
    )

    def encode_rows(
        params: models.ParamTree, tokens: np.ndarray, ngrams: np.ndarray | None = None
    ) -> np.ndarray:
        rows = len(tokens)
        total = rows + -rows % mesh.shape["data"]
        local = local_rows(mesh, total)

        def mine(x):
            return np.pad(x, ((0, total - rows), *[(0, 0)] * (x.ndim - 1)))[local]

        inputs = put_batch(jax.tree.map(mine, (tokens, ngrams)), mesh, total)
        return np.asarray(encode(params, *inputs))[:rows]

    return encode_rows


def make_loss(plan: Plan) -> Callable[[models.ParamTree], float]:
    """`loss(params)`: the mean over all batches of `plan.dev`, in evaluation mode."""
    task, batches = plan.main, plan.dev
    objectives, graphdef = objectives_of(task, plan.vocab_size, plan.teacher_width)

    def of_batch(params: models.ParamTree, batch: Batch):
        return combine.loss(objectives, graphdef, params, batch, None)[0]

    compiled = jax.jit(of_batch, out_shardings=NamedSharding(plan.mesh, P()))

    def loss(params: models.ParamTree) -> float:
        own = parts.own(params, task.name)
        steps = range(batches.steps_per_epoch)
        put = (put_batch(batches[step], plan.mesh, task.rows) for step in steps)
        return float(np.mean([float(compiled(own, batch)) for batch in put]))

    return loss


def encode_split(
    encode: Callable,
    params: models.ParamTree,
    split: Split,
    buckets: tuple[int, ...],
    max_length: int,
    batch_size: int = 256,
    ngrams: int = 0,
) -> np.ndarray:
    """Vectors [rows, sides, D] of all sentences of a split.

    Args:
      ngrams: buckets of character n-grams of the encoder.
    """
    lengths = np.minimum(split.lengths.reshape(-1), max_length)
    vectors = None
    for rows, length in by_length(lengths, buckets=buckets, batch_size=batch_size):
        tokens = np.zeros((batch_size, length), np.int32)  # one shape per length
        tokens[: len(rows)] = gather(split.tokens, split.offsets, rows, length)
        batch = encode(params, *look_up_words(split, tokens, ngrams))[: len(rows)]
        if vectors is None:
            vectors = np.empty((len(lengths), batch.shape[1]), np.float32)
        vectors[rows] = batch
    return vectors.reshape(split.rows, split.sides, -1)


def dev_texts(split: Split) -> np.ndarray:
    """Numbers [rows, sides] that are equal where sentences have the same tokens."""
    segments = range(len(split.offsets) - 1)
    tokens = [split.tokens[split.offsets[i] : split.offsets[i + 1]].tobytes() for i in segments]
    return text_labels(tokens).reshape(split.rows, split.sides)


def dev_scores(vectors: np.ndarray, pair: np.ndarray, texts: np.ndarray) -> dict[str, float]:
    """P@1 in per cent, mean of both directions: per language pair, and their mean `dev_p@1`.

    Args:
      vectors: [rows, 2, D].
      pair: name of each row's language pair, [rows]; the pair's rows are the candidates.
      texts: [rows, 2] numbers that are equal where the sentences are, any of which is then right.
    """
    scores = {}
    for name in np.unique(pair):
        rows, (src, tgt) = vectors[pair == name], texts[pair == name].T.tolist()
        found = precision_by_text(rows[:, 0], rows[:, 1], (src, tgt))
        scores[f"dev_p@1/{name}"] = 100 * found.mean
    return {"dev_p@1": float(np.mean(list(scores.values()))), **scores}
