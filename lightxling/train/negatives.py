"""Hard negatives: for every training row, wrong sentences that an earlier encoder finds similar.

They are kept beside the token store: `negatives.npy` int32 [rows, N], sentences of the store (row *
sides + side), and `manifest.json` with the checksum. N is K for one direction of the ranking, and
2 K for both, the negatives of the first direction first.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.files import atomic_folder, file_sha256, parse_json, write_json
from lightxling.base.shapes import Bool, Int
from lightxling.base.vectors import map_array, nearest
from lightxling.config.objectives import RankingConfig
from lightxling.config.schema import Config
from lightxling.corpus.store import Store
from lightxling.corpus.vectors import (
    FrozenEncoder,
    Pace,
    SentenceVectors,
    folder,
    make_once,
    prepare_vectors,
)
from lightxling.encode.encoder import Encoder
from lightxling.saved import bundle as bundles

CHUNK = 8192
"""Queries that are searched together."""


def find_miner(config: Config) -> FrozenEncoder | None:
    """The earlier encoder of a task, checked before anything expensive; None without negatives.

    Raises:
      UserError: it is missing or damaged.
    """
    ranking = config.objectives.ranking
    if not (ranking.weight and ranking.negatives):
        return None
    try:
        bundle = bundles.load_bundle(ranking.mined_by)
    except UserError as error:
        raise UserError(f"objectives.ranking.mined_by={ranking.mined_by}: {error}") from None
    return FrozenEncoder(bundle.fingerprint(), lambda: Encoder(bundle).encode)


def sentence_negatives(
    config: Config, store: Store, miner: FrozenEncoder, *, progress: Callable[[str], None] = print
) -> Int[np.ndarray, "R N"]:
    """The negatives of a store's training rows, computed where they are not on disk.

    Raises:
      UserError: the sources have changed, the text has too few sentences, or the disk is full.
    """
    ranking = config.objectives.ranking
    sides = candidate_sides(ranking)
    identity = {
        "negatives": ranking.negatives,
        "among": ranking.mined_among,
        "sides": sides,
        "encoder": miner.sha256,
    }
    final = folder(store, identity, kind="negatives")

    def make() -> None:
        vectors = prepare_vectors(
            config,
            store,
            identity={"encoder": miner.sha256},
            wanted=np.ones((len(store.groups), store.train.sides), bool),
            pivot=np.zeros(len(store.groups), int),
            load=miner.load,
            kind="miner",
            progress=progress,
        )
        progress(f"searching {ranking.negatives} hard negatives of each sentence")
        count, among = ranking.negatives, ranking.mined_among
        found = [
            mine_negatives(vectors, side, count, among=among, progress=progress) for side in sides
        ]
        with atomic_folder(final) as work:
            np.save(work / "negatives.npy", np.concatenate(found, axis=1))
            checksum = file_sha256(work / "negatives.npy")
            manifest = {"store": store.path.name, **identity, "sha256": checksum}
            write_json(work / "manifest.json", manifest)

    make_once(final, progress, make)
    progress(f"hard negatives in {final}")
    return _open(final, store, ranking.negatives * len(sides))


def candidate_sides(ranking: RankingConfig) -> list[int]:
    """The side that is looked for, of every direction."""
    return {"forward": [1], "backward": [0], "both": [1, 0]}[ranking.direction]


def _open(path: Path, store: Store, count: int) -> np.ndarray:
    try:
        manifest = parse_json(limits.read_bytes(path / "manifest.json"))
        is_whole = manifest["sha256"] == file_sha256(path / "negatives.npy")
        negatives = map_array(path / "negatives.npy")
    except (OSError, ValueError, KeyError, TypeError):
        is_whole = False
    if not is_whole or negatives.shape != (store.train.rows, count):
        raise UserError(f"{path} is damaged; remove it, and the negatives are searched again")
    return np.asarray(negatives)


def mine_negatives(
    vectors: SentenceVectors,
    side: int,
    count: int,
    *,
    among: int = 0,
    progress: Callable[[str], None] = print,
) -> Int[np.ndarray, "R K"]:
    """The `count` nearest wrong sentences of `side`, for the other side's sentence of every row.

    Wrong is what is neither the text of the query itself nor that of any sentence that stands
    beside this query in a row of the corpus.

    Args:
      among: different sentences that are drawn at random to be looked for; 0: all.

    Returns:
      Sentences (row * 2 + side), nearest first; of rows with the same text, the first one's.

    Raises:
      UserError: there are too few different sentences.
    """
    asked, row_query = np.unique(vectors.index[:, 1 - side], return_inverse=True)  # [Q], [R]
    texts, first_row, row_text = np.unique(  # [C], [C], [R]
        vectors.index[:, side], return_index=True, return_inverse=True
    )
    known = np.unique(row_query.astype(np.int64) * len(texts) + row_text)  # right (query, text)
    answers = np.bincount(known // len(texts), minlength=len(asked))
    drawn = np.arange(len(texts))
    if 0 < among < len(texts):
        drawn = np.sort(np.random.default_rng(0).choice(len(texts), among, replace=False))
    candidates = np.asarray(vectors.vectors[texts[drawn]])
    negatives = np.empty((len(asked), count), np.int64)
    order = np.argsort(answers, kind="stable")  # alike in how many neighbours may be right
    pace = Pace("hard negatives", len(asked), progress)
    for start in range(0, len(asked), CHUNK):
        queries = order[start : start + CHUNK]
        wanted = count + int(answers[queries].max()) + 1  # and one of the same text as the query
        _, found = nearest(vectors.vectors[asked[queries]], candidates, wanted)
        found = drawn[found]
        pairs = queries[:, None] * len(texts) + found
        is_right = np.isin(pairs, known) | (texts[found] == asked[queries][:, None])
        negatives[queries] = first_wrong(found, is_right, count)
        pace.note(start + len(queries))
    sentences = (first_row * vectors.index.shape[1] + side)[negatives]  # [Q, K]
    return sentences[row_query].astype(np.int32)


def first_wrong(
    found: Int[np.ndarray, "Q N"], is_right: Bool[np.ndarray, "Q N"], count: int
) -> Int[np.ndarray, "Q K"]:
    """The first `count` of each row of `found` that are not right."""
    if (np.count_nonzero(~is_right, axis=1) < count).any():
        raise UserError(
            f"objectives.ranking.negatives={count} is more than the corpus has wrong sentences for "
            "one of its sentences; ask for fewer, or add text"
        )
    order = np.argsort(is_right, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(found, order, axis=1)
