"""The encoder's forward pass in numpy: what runs where an encoder is used, not trained.

The same function as `model.encoder.TransformerEncoder` in evaluation mode (a test holds them
together), without padding: sentences of equal length are stacked, so attention needs no mask, and
everything but attention runs over all tokens of a batch at once. On a CPU this is faster than
compiled code over padded batches, and importing it takes no time.
"""

from collections.abc import Callable, Sequence

import numpy as np

from lightxling.base.shapes import Float, Integer
from lightxling.config.schema import ModelConfig
from lightxling.corpus.words import WordTable
from lightxling.model.params import (
    GELU_CUBE,
    GELU_SCALE,
    PIECE_RATE,
    TABLES,
    TINY,
    Params,
    array,
    merge_lora,
    scale_axis,
    unpack,
)

_ERF_ABOVE = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_BELOW = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)

SAFE = 80
"""Scores between it and its negative have exponentials, and sums of them, within float32."""


class Forward:
    """Parameters in float32; the two tables stay in their own format until looked up."""

    def __init__(self, config: ModelConfig, params: Params):
        config, params = merge_lora(config, params)
        self.config = config
        self.beside = config.adapters
        tables = set(TABLES)
        self.params = {
            name: array(params, name)
            for name in params
            if name not in tables and not name.endswith(".scales")
        }
        self.tables = {
            name: (params[name], params.get(f"{name}.scales")) for name in tables if name in params
        }
        assert all(scale_axis(name) == 0 for name in tables)
        if config.pooling == "weighted":
            self.weights = weights_of_pieces(self.params["piece_weights"])
        is_bag = not (config.layers or config.positions or config.ngrams)
        is_worth_it = config.embedding_norm or "word_projection" in params
        table, _ = self.tables["words"]
        self.kept = PieceStates(self.embed, len(table)) if is_bag and is_worth_it else None

    def __call__(
        self, groups: Sequence[Integer[np.ndarray, "_ _"]], words: WordTable | None = None
    ) -> Float[np.ndarray, "B D"]:
        """Vectors of all sentences, group after group, not normalised.

        Args:
          groups: token ids [n, L] without padding; the n sentences of a group are equally long.
          words: what the ids stand for; None: they are rows of the embedding table.
        """
        config, p = self.config, self.params
        ids = np.concatenate([group.ravel() for group in groups])
        if self.kept is not None and words is None:
            x = self.kept(ids)
        else:
            x = self.embed(ids, words, groups)  # [tokens, D]
        known = {"swish": swish, "relu": relu, "gelu": gelu, "gelu_new": gelu_new}
        activate = known[config.activation]
        for i in range(config.layers):
            name = f"blocks.{i}"
            x += self.linear(self.attend(self.linear(x, f"{name}.qkv"), groups), f"{name}.out")
            self.norm(x, f"{name}.attention_norm")
            hidden = self.linear(activate(self.linear(x, f"{name}.up")), f"{name}.down")
            for adapter in self.beside:
                part = f"adapters.{adapter.name}.{name}"
                narrow = relu(self.linear(x, f"{part}.down"))
                hidden += np.float32(adapter.scale) * self.linear(narrow, f"{part}.up")
            x += hidden
            self.norm(x, f"{name}.output_norm")
        vectors = self.pool(x, ids if words is None else words.rows[ids], groups)
        if config.dense:
            vectors = np.tanh(self.linear(vectors, "dense"))
        return vectors @ p["projection"] if "projection" in p else vectors

    def embed(
        self,
        ids: Integer[np.ndarray, " T"],
        words: WordTable | None = None,
        groups: Sequence[np.ndarray] = (),
    ) -> Float[np.ndarray, "T D"]:
        """What the first block reads; `groups` say where sentences begin."""
        x = self.look_up(ids, words)  # [T, E]
        if "word_projection" in self.params:
            x = x @ self.params["word_projection"]
        if self.config.positions:
            start = 0
            table = self.rows("positions", np.arange(1, 1 + max(g.shape[1] for g in groups)))
            for group in groups:
                here = x[start : start + group.size].reshape(*group.shape, -1)
                here += table[: group.shape[1]]
                start += group.size
        if self.config.embedding_norm:
            self.norm(x, "embedding_norm")
        return x

    def look_up(
        self, ids: Integer[np.ndarray, " T"], words: WordTable | None
    ) -> Float[np.ndarray, "T E"]:
        if words is None:
            return self.rows("words", ids)
        distinct, place = np.unique(ids, return_inverse=True)
        x = self.rows("words", words.rows[distinct])  # [U, E]
        if self.config.ngrams:
            ngrams = words.buckets(distinct, self.config.ngrams)  # [U, G]
            letters = self.linear(self.rows("ngrams", ngrams.ravel()), "ngram_layer")
            letters = np.tanh(letters, out=letters).reshape(*ngrams.shape, -1)
            x += np.einsum("uge,ug->ue", letters, ngrams > 0)
        return x[place]

    def rows(self, name: str, ids: Integer[np.ndarray, " T"]) -> Float[np.ndarray, "T E"]:
        values, scales = self.tables[name]
        found = values[ids]
        found = unpack(found) if found.dtype == np.uint8 else found.astype(np.float32, copy=False)
        if scales is not None:
            found *= scales[ids, None]
        return found

    def linear(self, x: Float[np.ndarray, "T I"], name: str) -> Float[np.ndarray, "T O"]:
        y = x @ self.params[f"{name}.kernel"]
        y += self.params[f"{name}.bias"]
        return y

    def norm(self, x: Float[np.ndarray, "T D"], name: str) -> None:
        """LayerNorm in place."""
        x -= x.mean(axis=1, keepdims=True)
        variance = np.einsum("td,td->t", x, x) / np.float32(x.shape[1])
        x *= (1 / np.sqrt(variance + np.float32(self.config.norm_eps)))[:, None]
        x *= self.params[f"{name}.scale"]
        x += self.params[f"{name}.bias"]

    def attend(
        self, qkv: Float[np.ndarray, "T _"], groups: Sequence[np.ndarray]
    ) -> Float[np.ndarray, "T D"]:
        width, heads = self.config.width, self.config.heads
        out = np.empty((len(qkv), width), np.float32)
        qkv[:, :width] *= np.float32((width // heads) ** -0.5)
        start = 0
        for group in groups:
            here = slice(start, start + group.size)
            parts = qkv[here].reshape(*group.shape, 3, heads, width // heads)
            q, k, v = parts.transpose(2, 0, 3, 1, 4)  # each [n, H, L, K]
            weights = softmax(q @ k.swapaxes(2, 3))
            out[here] = (weights @ v).swapaxes(1, 2).reshape(-1, width)
            start += group.size
        return out

    def pool(
        self,
        x: Float[np.ndarray, "T D"],
        rows: Integer[np.ndarray, " T"],
        groups: Sequence[np.ndarray],
    ) -> Float[np.ndarray, "B D"]:
        """The vectors of sentences from their tokens' states and rows in the table."""
        kind, p = self.config.pooling, self.params
        plain = {"mean": np.mean, "max": np.max, "sum": np.sum, "cls": first}
        start, pooled = 0, []
        for group in groups:
            here = slice(start, start + group.size)
            hidden = x[here].reshape(*group.shape, -1)  # [n, L, D]
            if kind in plain:
                pooled.append(plain[kind](hidden, axis=1))
            else:
                if kind == "weighted":
                    weight = self.weights[rows[here]].reshape(group.shape)
                else:
                    scores = hidden @ p["pooling_query"]
                    weight = np.exp(scores - scores.max(axis=1, keepdims=True))
                total = np.maximum(weight.sum(axis=1, keepdims=True), TINY)
                pooled.append(((weight / total)[:, None] @ hidden)[:, 0])
            start += group.size
        return np.concatenate(pooled)


class PieceStates:
    """States of the pieces of a bag, each computed when it is met first.

    Without blocks and positions they depend on the piece alone. Memory grows with the pieces met.
    """

    def __init__(self, compute: Callable[[np.ndarray], np.ndarray], vocab_size: int):
        self.compute = compute
        width = compute(np.zeros(1, np.int64)).shape[1]
        self.states = np.zeros((vocab_size, width), np.float32)
        self.is_known = np.zeros(vocab_size, bool)

    def __call__(self, ids: Integer[np.ndarray, " T"]) -> Float[np.ndarray, "T D"]:
        new = np.unique(ids[~self.is_known[ids]])
        if len(new):
            self.states[new] = self.compute(new)
            self.is_known[new] = True  # last, for other threads
        return self.states[ids]


def weights_of_pieces(c: Float[np.ndarray, " V"]) -> Float[np.ndarray, " V"]:
    """log(1 + exp(10 c)), written so that nothing overflows."""
    x = np.float32(PIECE_RATE) * c
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def softmax(scores: Float[np.ndarray, "n H L L"]) -> Float[np.ndarray, "n H L L"]:
    """Over the last axis, in place."""
    # the maximum of every short row takes longer than all the rest, and is only needed where the
    # exponential of a score leaves the range of float32
    if not (scores.max() < SAFE and scores.min() > -SAFE):
        scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= np.einsum("nhij->nhi", scores)[..., None]
    return scores


def swish(x: Float[np.ndarray, "T F"]) -> Float[np.ndarray, "T F"]:
    """x * sigmoid(x) in place, as x/2 * (1 + tanh(x/2)), in which nothing overflows."""
    x *= np.float32(0.5)
    y = np.tanh(x)
    y += 1
    x *= y
    return x


def gelu(x: Float[np.ndarray, "T F"]) -> Float[np.ndarray, "T F"]:
    """x Phi(x) = x/2 * (1 + erf(x / sqrt 2)), in place."""
    y = erf(x * np.float32(0.5**0.5))
    y += 1
    x *= np.float32(0.5)
    x *= y
    return x


def erf(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The error function in float32, to 4e-7; x is changed.

        erf(x) = x P(x^2) / Q(x^2)   for |x| <= 4, beyond which it is 1 in float32

    Source: the rational function of Eigen (`generic_fast_erf_float`), which XLA has too.
    """
    np.clip(x, -4, 4, out=x)
    square = x * x
    above, below = (np.full_like(x, part[0]) for part in (_ERF_ABOVE, _ERF_BELOW))
    for result, part in ((above, _ERF_ABOVE), (below, _ERF_BELOW)):
        for coefficient in part[1:]:
            result *= square
            result += np.float32(coefficient)
    x *= above
    x /= below
    return x


def first(hidden: Float[np.ndarray, "n L D"], axis: int) -> Float[np.ndarray, "n D"]:
    """The state of the first token."""
    return hidden.take(0, axis=axis)


def gelu_new(x: Float[np.ndarray, "T F"]) -> Float[np.ndarray, "T F"]:
    """GELU through tanh, see `params.GELU_SCALE`."""
    z = np.tanh(np.float32(GELU_SCALE) * (x + np.float32(GELU_CUBE) * x * x * x))
    return np.float32(0.5) * x * (1 + z)


def relu(x: Float[np.ndarray, "T F"]) -> Float[np.ndarray, "T F"]:
    """max(x, 0), in place."""
    return np.maximum(x, 0, out=x)
