"""By how much one encoder finds more than another, and what results keep of it."""

import numpy as np
import pytest

from lightxling.evaluate.paired import pack_found
from lightxling.evaluate.pairwise import rows_by_pair
from lightxling.saved.run import RunFolder


def folder(tmp_path, name, hits, sha="a"):
    found = np.array(hits, bool)
    scores = dict(zip(("forward", "backward"), (100 * found.mean(axis=1)).tolist(), strict=True))
    unit = {
        "scores": scores,
        "candidates": found.shape[1],
        "found": dict(zip(scores, (pack_found(np.where(one, 1, 2)) for one in found), strict=True)),
        "data": [{"path": "x.tsv", "sha256": sha}],
    }
    results = {"retrieval.dev": {"results": {"en-fr": unit}}}
    return RunFolder(tmp_path / name, {}, [], 0, results, [])


def test_a_row_has_both_encoders_and_what_is_between_them(tmp_path):
    one = folder(tmp_path, "boxed", [[1, 0, 0, 0], [1, 1, 0, 0]])
    two = folder(tmp_path, "mine", [[1, 1, 1, 1], [1, 1, 1, 1]])
    head, row = rows_by_pair([one, two])
    assert head == ["", "boxed →", "boxed ←", "mine →", "mine ←", "candidates", "mine − boxed"]
    assert row[:6] == ["retrieval.dev en-fr", "25.0", "50.0", "100.0", "100.0", "4"]
    assert row[6].startswith("+62.5 (+")


@pytest.mark.parametrize("other", [{"sha": "b"}, {}])
def test_scores_on_other_text_are_not_subtracted(tmp_path, other):
    hits = [[1, 0, 0], [1, 1, 0]]
    head, row = rows_by_pair([folder(tmp_path, "a", hits), folder(tmp_path, "b", hits, **other)])
    assert row[-1] == ("other text" if "sha" in other else "+0.0 (+0.0 to +0.0)")
    assert len(head) == len(row)


def test_results_without_the_sentences_have_a_difference_without_an_interval(tmp_path):
    one, two = (folder(tmp_path, name, [[1, 0], [1, 1]]) for name in "ab")
    del two.results["retrieval.dev"]["results"]["en-fr"]["found"]
    assert rows_by_pair([one, two])[1][-1] == "+0.0"
