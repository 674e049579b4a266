import numpy as np
import pytest

from lightxling.base.errors import UserError
from lightxling.encode.mining import (
    Mined,
    best_threshold,
    bucc_split,
    f1_score,
    faiss_search,
    mine_pairs,
    unique_texts,
)


def slow_mine(src, tgt, margin, retrieval, k):
    """The definition of the margin scores, over dictionaries of all pairs, in float64."""
    src, tgt = np.asarray(src, np.float64), np.asarray(tgt, np.float64)
    cos = {
        (i, j): float(x @ y) / float(np.sqrt(x @ x) * np.sqrt(y @ y))
        for i, x in enumerate(src)
        for j, y in enumerate(tgt)
    }
    near_src = {i: sorted(range(len(tgt)), key=lambda j: -cos[i, j])[:k] for i in range(len(src))}
    near_tgt = {j: sorted(range(len(src)), key=lambda i: -cos[i, j])[:k] for j in range(len(tgt))}

    def score(i, j):
        a = sum(cos[i, n] for n in near_src[i]) / len(near_src[i]) / 2
        a += sum(cos[n, j] for n in near_tgt[j]) / len(near_tgt[j]) / 2
        return {"ratio": cos[i, j] / a, "distance": cos[i, j] - a, "absolute": cos[i, j]}[margin]

    forward = [max((score(i, j), i, j) for j in near_src[i]) for i in near_src]
    backward = [max((score(i, j), i, j) for i in near_tgt[j]) for j in near_tgt]
    if retrieval != "max":
        both = set(forward) & set(backward)
        return sorted({"forward": forward, "backward": backward, "intersection": both}[retrieval])
    kept, used = [], set()
    for s, i, j in sorted(forward + backward, reverse=True):
        if ("src", i) not in used and ("tgt", j) not in used:
            kept.append((s, i, j))
            used |= {("src", i), ("tgt", j)}
    return sorted(kept)


def collections(seed=0):
    """40 and 30 sentences, of which the first 20 translate each other."""
    rng = np.random.default_rng(seed)
    src, tgt = rng.normal(size=(40, 8)) + 1, rng.normal(size=(30, 8)) + 1
    tgt[:20] = src[:20] + 0.3 * rng.normal(size=(20, 8))
    return src, tgt


@pytest.mark.parametrize("k", [1, 4, 100])
@pytest.mark.parametrize("retrieval", ["forward", "backward", "intersection", "max"])
@pytest.mark.parametrize("margin", ["ratio", "distance", "absolute"])
def test_mining_equals_the_definition(margin, retrieval, k):
    src, tgt = collections()
    found = mine_pairs(src, tgt, margin=margin, retrieval=retrieval, k=k)
    expected = slow_mine(src, tgt, margin, retrieval, k)
    assert sorted(zip(found.src.tolist(), found.tgt.tolist(), strict=True)) == sorted(
        (i, j) for _, i, j in expected
    )
    np.testing.assert_allclose(found.score[::-1], [s for s, _, _ in expected], rtol=1e-5, atol=1e-6)


def test_worked_example_of_the_margins():
    src, tgt = np.array([[1.0, 0.0]]), np.array([[0.8, 0.6], [0.6, 0.8]])
    # Neighbourhoods: src (.8 + .6) / 2 = .7; tgt .8 and .6. a = (.7 + .8) / 2 = .75 for the first.
    for margin, score in [("ratio", 0.8 / 0.75), ("distance", 0.05), ("absolute", 0.8)]:
        found = mine_pairs(src, tgt, margin=margin)
        assert (found.src.tolist(), found.tgt.tolist()) == ([0], [0])
        np.testing.assert_allclose(found.score, [score], rtol=1e-6)
    assert len(mine_pairs(src, tgt, retrieval="backward")) == 2
    assert len(mine_pairs(src[:1], tgt[:1])) == 1


def test_max_uses_every_sentence_once():
    src, tgt = collections(3)
    found = mine_pairs(src, tgt)
    assert len(set(found.src.tolist())) == len(set(found.tgt.tolist())) == len(found)
    assert np.all(np.diff(found.score) <= 0)


@pytest.mark.filterwarnings("ignore:some sentences have a negative mean cosine")
def test_zero_vectors_score_zero_and_give_no_nan():
    found = mine_pairs(np.zeros((3, 4)), np.zeros((2, 4)))
    np.testing.assert_array_equal(found.score, 0)


def test_negative_neighbourhoods_are_reported():
    with pytest.warns(UserWarning, match=r"negative mean cosine .*--margin distance or absolute"):
        mine_pairs(np.array([[1.0, 0.0]]), np.array([[-1.0, 0.0]]))


def ranked(*score):
    rows = np.arange(len(score))
    return Mined(rows, rows, np.array(score, np.float32))


@pytest.mark.parametrize(
    ("score", "right", "gold", "threshold", "f1"),
    [
        # F1 after each pair: 2/4, 4/5, 4/6, 4/7 -> midpoint of .8 and .5
        ([0.9, 0.8, 0.5, 0.2], [1, 1, 0, 0], 3, 0.65, 4 / 5),
        # the best prefix is the whole list: its last score
        ([0.9, 0.8, 0.5], [1, 0, 1], 2, 0.5, 4 / 5),
        # equal scores stay together: after .8, .8 it is 2/4, not 2/3 after the first of them
        ([0.8, 0.8, 0.1], [1, 0, 0], 2, 0.45, 2 / 4),
        ([0.7], [1], 1, 0.7, 1.0),
        ([0.7, 0.6], [0, 0], 5, 0.65, 0.0),
    ],
)
def test_threshold_is_the_midpoint_after_the_best_prefix(score, right, gold, threshold, f1):
    mined, right = ranked(*score), np.array(right, bool)
    found, best = best_threshold(mined, right, gold)
    assert found == pytest.approx(threshold)
    assert best == pytest.approx(f1)
    kept = len(mined.above(found))
    assert f1_score(right[:kept], gold)["f1"] == pytest.approx(best)


def test_threshold_equals_trying_every_score():
    rng = np.random.default_rng(0)
    for _ in range(50):
        size = int(rng.integers(1, 30))
        mined = ranked(*np.sort(rng.integers(0, 12, size))[::-1])
        right, gold = rng.random(size) < 0.5, int(rng.integers(1, 20)) + size
        every = [
            f1_score(right[mined.score >= t], gold)["f1"] for t in mined.score.astype(np.float64)
        ]
        threshold, best = best_threshold(mined, right, gold)
        assert best == pytest.approx(max(every))
        assert f1_score(right[mined.score >= threshold], gold)["f1"] == pytest.approx(best)


def test_f1_by_hand():
    assert f1_score(np.array([True, True, False, False]), 8) == {
        "precision": 0.5,
        "recall": 0.25,
        "f1": pytest.approx(1 / 3),
    }
    assert f1_score(np.zeros(0, bool), 8) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_no_threshold_without_pairs():
    with pytest.raises(ValueError, match="1 mined pairs, 0 gold pairs"):
        best_threshold(ranked(0.5), np.array([True]), 0)


def test_unique_texts_keep_the_first_and_leave_out_blanks():
    texts, rows = unique_texts(["b", "", "a", "b", "  ", "a ", "a"])
    assert texts == ["b", "a"]  # the encoder reads "a " as "a"
    np.testing.assert_array_equal(rows, [0, 2])


def test_bucc_leaves_repeated_texts_out_of_the_measure():
    src = [("f1", "un"), ("f2", "deux"), ("f3", "un"), ("f4", "quatre")]
    tgt = [("e1", "one"), ("e2", "two"), ("e4", "four"), ("e5", "five")]
    split = bucc_split(src, tgt, [("f1", "e1"), ("f2", "e2"), ("e4", "f4")])
    assert (split.src, split.tgt) == (["un", "deux", "quatre"], ["one", "two", "four", "five"])
    assert split.gold == {(1, 1), (2, 2)}
    assert (split.dropped, split.all_gold) == (1, 3)
    assert split.asked == [(0, 0), (1, 1), (2, 2)]
    mined = Mined(np.array([1, 0, 2]), np.array([1, 0, 3]), np.array([0.9, 0.8, 0.7]))
    judged, right = split.judge(mined)
    assert judged.score.tolist() == [0.9, 0.7]
    assert right.tolist() == [True, False]


def test_bucc_files_that_do_not_belong_together_are_named():
    with pytest.raises(UserError, match="gold pair f9 e1: the sentence files have no"):
        bucc_split([("f1", "un")], [("e1", "one")], [("f9", "e1")])


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match=r"margin='ration' is not one of ratio, distance, absolute"):
        mine_pairs(*collections(), margin="ration")
    with pytest.raises(UserError, match="retrieval='both'"):
        mine_pairs(*collections(), retrieval="both")


def test_faiss_finds_the_same_pairs():
    pytest.importorskip("faiss")
    src, tgt = collections()
    exact = mine_pairs(src, tgt)
    flat = mine_pairs(src, tgt, search=faiss_search())
    np.testing.assert_array_equal(flat.src, exact.src)
    np.testing.assert_array_equal(flat.tgt, exact.tgt)
    np.testing.assert_allclose(flat.score, exact.score, rtol=1e-5)


def test_faiss_lists_keep_exact_scores_and_fill_short_answers():
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    src = rng.normal(size=(700, 8)) + 1
    tgt = src + 0.1 * rng.normal(size=src.shape)
    search = faiss_search("IVF64,SQ8", probes=2, chunk=300)
    cosines, rows = search(src, tgt, 40)  # two of 64 lists hold fewer than 40 sentences
    assert cosines.shape == rows.shape == (700, 40)
    assert rows.min() >= 0
    assert np.all(np.diff(cosines, axis=1) <= 0)
    assert np.mean(rows[:, 0] == np.arange(700)) > 0.9
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (src, tgt)]
    np.testing.assert_allclose(cosines, np.einsum("qd,qkd->qk", unit[0], unit[1][rows]), atol=1e-5)
