"""Pictures of an evaluation, as PNG: similarity matrix, accuracy per language, map of sentences.

Needs matplotlib (`pip install 'lightxling[plot]'`), which is imported when a picture is drawn.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Real

from lightxling.config import UserError
from lightxling.evaluate.retrieval import normalize
from lightxling.evaluate.tasks import TASKS
from lightxling.evaluate.tasks.sts import POOLED
from lightxling.evaluate.tasks.units import Encode, Unit, of_sides

SENTENCES = 60
"""Pairs in a similarity matrix: few enough to see a single cell."""
MAPPED = 8
"""Sentences on a map: few enough to have a colour each."""


def all_pictures(
    encode: Encode,
    results: Mapping[Path, Mapping[str, Any]],
    plan: Mapping[str, Sequence[Unit]],
    folder: Path,
) -> Iterator[Path]:
    """Draws what the results and the units give, into `folder`; yields the files.

    Args:
      results: of every benchmark, by the file that keeps them, beside which its picture lies.
    """
    for file, benchmark in results.items():
        scores = {
            name: unit["scores"][TASKS[benchmark["task"]].headline]
            for name, unit in benchmark["results"].items()
            if name != POOLED and TASKS[benchmark["task"]].headline in unit["scores"]
        }
        if scores:
            title = f"{file.stem}: {TASKS[benchmark['task']].headline}, per cent"
            yield bars(scores, title, file.with_suffix(".png"))
    parallel = [unit for units in plan.values() for unit in units if unit.pairs]
    for unit in parallel:
        src, tgt = (side[:SENTENCES] for side in unit.pairs())
        name = f"similarity.{unit.dataset}.{unit.name}"
        labels = (f"{unit.languages[0]} sentence", f"{unit.languages[1]} sentence")
        one, other = of_sides(encode, unit.languages)
        yield similarity_matrix(one(src), other(tgt), labels, folder / f"{name}.png")
    languages, texts = shared_sentences(parallel)
    if texts:
        vectors = np.stack([encode(list(row)) for row in texts])
        captions = [row[0] for row in texts]
        yield sentence_map(vectors, languages, captions, folder / "map.png")


def bars(scores: Mapping[str, float], title: str, path: Path) -> Path:
    """A bar per language, best first, with its number."""
    plt = _pyplot()
    order = sorted(scores, key=lambda name: -scores[name])
    values = [scores[name] for name in order]
    figure, axes = plt.subplots(figsize=(max(4, 0.35 * len(order) + 1), 3.5))
    drawn = axes.bar(order, values, color="#3b6ea5")
    axes.bar_label(drawn, [f"{value:.1f}" for value in values], fontsize=7, padding=1)
    axes.axhline(np.mean(values), color="#c44e52", linewidth=1, linestyle="--")
    axes.set_ylim(0, max(100, *values) * 1.05)
    axes.set_title(f"{title} (dashed: mean {np.mean(values):.1f})", fontsize=9)
    axes.tick_params(axis="x", rotation=90 if len(order) > 8 else 0, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return _save(figure, path)


def similarity_matrix(
    src: Real[np.ndarray, "N D"],
    tgt: Real[np.ndarray, "N D"],
    labels: tuple[str, str],
    path: Path,
) -> Path:
    """Cosine of every source with every target sentence; translations lie on the diagonal."""
    plt = _pyplot()
    cosines = normalize(src) @ normalize(tgt).T
    right = np.mean(np.argmax(cosines, axis=1) == np.arange(len(cosines)))
    figure, axes = plt.subplots(figsize=(5, 4.3))
    image = axes.imshow(cosines, cmap="magma", interpolation="nearest")
    axes.set_xlabel(labels[1])
    axes.set_ylabel(labels[0])
    axes.set_title(f"{len(cosines)} pairs, nearest is right in {100 * right:.0f} %", fontsize=9)
    figure.colorbar(image, label="cosine")
    return _save(figure, path)


def sentence_map(
    vectors: Real[np.ndarray, "S L D"],
    languages: Sequence[str],
    captions: Sequence[str],
    path: Path,
) -> Path:
    """The same S sentences in L languages, in the plane of their two main directions.

    One colour per sentence, one marker per language; what means the same should lie together.
    """
    plt = _pyplot()
    flat, share = principal_plane(normalize(vectors.reshape(-1, vectors.shape[-1])))
    points = flat.reshape(*vectors.shape[:2], 2)
    figure, axes = plt.subplots(figsize=(7, 5))
    colours = plt.get_cmap("tab10")(np.arange(len(points)) % 10)
    markers = "osD^vP*X<>hp"
    for sentence, colour in zip(points, colours, strict=True):
        middle = sentence.mean(axis=0)
        for i, point in enumerate(sentence):
            axes.plot(*zip(middle, point, strict=True), color=colour, linewidth=0.7, alpha=0.6)
            axes.plot(*point, markers[i % len(markers)], color=colour, markersize=6, alpha=0.8)
    for i, language in enumerate(languages):
        axes.plot([], [], markers[i % len(markers)], color="grey", label=language)
    for caption, colour in zip(captions, colours, strict=True):
        short = caption if len(caption) <= 40 else caption[:39] + "…"
        axes.plot([], [], "s", color=colour, label=short.replace("$", r"\$"))
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    axes.set_title(
        f"first two principal directions, {100 * share:.0f} % of the variance", fontsize=9
    )
    axes.set_xticks([])
    axes.set_yticks([])
    return _save(figure, path)


def principal_plane(
    vectors: Real[np.ndarray, "N D"],
) -> tuple[Float[np.ndarray, "N 2"], float]:
    """Coordinates in the plane of most variance, and the share of the variance it has."""
    centred = np.asarray(vectors, np.float64) - np.mean(vectors, axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(vectors), 2))
    points[:, : min(2, len(s))] = (u * s)[:, :2]
    total = float(np.sum(s**2))
    return points, float(np.sum(s[:2] ** 2)) / total if total else 0.0


def shared_sentences(units: Sequence[Unit]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Up to `MAPPED` sentences in as many languages as possible.

    Units that have the same first language are joined by its sentences: the common ones of all
    units, or of the most units that have any in common.
    """
    tables = []
    for unit in units:
        src, tgt = unit.pairs()
        if not tables or unit.languages[0] == tables[0][0][0]:
            tables.append((unit.languages, dict(zip(src, tgt, strict=True))))
    common: set[str] = set()
    used = []
    for languages, table in tables:
        joined = common & table.keys() if used else set(table)
        if joined and languages[1] not in [pair[1] for pair, _ in used]:
            common, used = joined, [*used, (languages, table)]
    if not used:
        return [], []
    rows = sorted(common, key=lambda text: (abs(len(text) - 40), text))[:MAPPED]
    languages = [used[0][0][0], *(pair[1] for pair, _ in used)]
    return languages, [(text, *(table[text] for _, table in used)) for text in rows]


def _pyplot():
    try:
        import matplotlib
    except ImportError as error:
        raise UserError("--plot needs matplotlib: pip install 'lightxling[plot]'") from error
    matplotlib.use("Agg")  # no window
    from matplotlib import pyplot

    return pyplot


def _save(figure, path: Path) -> Path:
    from lightxling.files import atomic

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=150, bbox_inches="tight", format="png")
    _pyplot().close(figure)
    return path
