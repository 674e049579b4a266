"""Whether an encoder tells sentences with a masked piece from others: where one side of a pair is
masked in training, that alone says which half of a batch the translation is in.

    python tools/measure_masks.py runs/five --pairs "en-de=dev.en-de.tsv.gz" ...

Prints, for every run, the contrastive loss of batches of 128 pairs drawn from all sources, in nats,
both directions added, at temperature 0.05: without masks, with a mask in a random side of each
pair, and with one in both; then the mean cosine of a sentence and its masked version.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import tyro

from lightxling.base.lines import Problems
from lightxling.base.vectors import normalize
from lightxling.corpus import tokenizer as tokenizers
from lightxling.corpus.pieces import MASK
from lightxling.corpus.readers import read_source
from lightxling.corpus.sources import Source
from lightxling.model.forward import Forward
from lightxling.objectives.contrast import alignment
from lightxling.saved import bundle as bundles

BATCH, TEMPERATURE = 128, 0.05


def main(
    runs: Annotated[tuple[str, ...], tyro.conf.Positional], pairs: tuple[str, ...], rows: int = 2560
) -> None:
    """Compares encoders on the same sentences.

    Args:
      runs: folders of runs or exports.
      pairs: parallel text, en-fr=FILE; every source gives as many rows.
      rows: pairs in all.
    """
    rng = np.random.default_rng(0)
    texts = drawn(pairs, rows, rng)
    print("run, no masks, one side, both sides, cosine to the masked version")
    for run in runs:
        seed = np.random.default_rng(0)
        plain = [vectors(run, side, None) for side in texts]
        masked = [vectors(run, side, seed) for side in texts]
        left = seed.integers(0, 2, len(plain[0])).astype(bool)[:, None]
        one = np.where(left, masked[0], plain[0]), np.where(left, plain[1], masked[1])
        cosine = np.mean([np.sum(a * b, axis=1) for a, b in zip(plain, masked, strict=True)])
        losses = ", ".join(f"{contrastive_loss(*sides):.2f}" for sides in (plain, one, masked))
        print(f"{run}, {losses}, {cosine:.2f}", flush=True)


def drawn(sources: Sequence[str], rows: int, rng: np.random.Generator) -> list[list[str]]:
    """Both sides of random rows, as many of every source, in random order."""
    found = []
    for text in sources:
        all_rows = [row[:2] for row in read_source(Source.parse(text), Problems())]
        chosen = rng.permutation(len(all_rows))[: -(-rows // len(sources))]
        found += [all_rows[i] for i in chosen]
    return list(map(list, zip(*(found[i] for i in rng.permutation(len(found))), strict=True)))


def vectors(run: str, texts: list[str], rng: np.random.Generator | None) -> np.ndarray:
    """Vectors of length 1, with a random piece of each sentence masked where there is an `rng`."""
    bundle = bundles.load_bundle(run)
    encode = Forward(bundle.config, bundle.params)
    tokenizer = tokenizers.read_tokenizer(bundle.tokenizer)
    ids, lengths = tokenizer.encode(texts, bundle.config.max_length)
    starts = np.cumsum(lengths) - lengths
    if rng is not None:
        ids[starts + rng.integers(lengths)] = MASK
    found = np.empty((len(texts), bundle.dimension), np.float32)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        found[rows] = encode([ids[starts[rows, None] + np.arange(length)]])
    return normalize(found)


def contrastive_loss(src: np.ndarray, tgt: np.ndarray) -> float:
    """Mean over whole batches."""
    starts = range(0, len(src) - BATCH + 1, BATCH)
    batches = [(src[start : start + BATCH], tgt[start : start + BATCH]) for start in starts]
    return float(np.mean([alignment(*batch, temperature=TEMPERATURE) for batch in batches]))


if __name__ == "__main__":
    tyro.cli(main)
