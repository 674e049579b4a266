"""Rows with a wrong answer beside the pair: read, made of inference data, and trained on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightxling.base.errors import UserError
from lightxling.base.lines import Problems
from lightxling.cli import main
from lightxling.config import AlignConfig, ModelConfig, RankingConfig, change, only
from lightxling.config.schema import Config
from lightxling.corpus.batch import Batch
from lightxling.corpus.readers import read_source
from lightxling.corpus.sources import Source
from lightxling.corpus.triples import find_triples
from lightxling.model import build as models
from lightxling.objectives import combine
from lightxling.objectives.combine import heads_of
from lightxling.train.tasks import check_sides

NLI = """contradiction\tA man sleeps.\tA man runs.
entailment\tA man sleeps.\tA person rests.
neutral\tA man sleeps.\tHe is tired.
entailment\tA dog barks.\tAn animal is loud.
"""


def test_a_sentence_with_both_labels_gives_two_triples():
    rows = [("s", "e", 0), ("s", "c", 2), ("s", "n", 1), ("x", "y", 0), ("u", "v", 2)]
    assert set(find_triples(rows)) == {("s", "e", "c"), ("e", "s", "c")}
    assert find_triples(rows) == find_triples(rows[::-1])


def test_a_label_holds_both_ways():
    assert set(find_triples([("p", "h", 0), ("c", "h", 2)])) == {("h", "p", "c"), ("p", "h", "c")}


def test_the_command_writes_triples_that_a_source_reads(tmp_path, capsys):
    (tmp_path / "nli.tsv").write_text(NLI)
    assert main(["paraphrases", f"en-en={tmp_path}/nli.tsv", "--inference", "True",
                 "-o", str(tmp_path / "out")]) == 0  # fmt: skip
    assert "2  " in capsys.readouterr().out
    source = Source.parse(f"en-en-en={tmp_path}/out/triples.en-en-en.tsv")
    assert set(read_source(source, Problems())) == {
        ("A man sleeps.", "A person rests.", "A man runs."),
        ("A person rests.", "A man sleeps.", "A man runs."),
    }


def test_a_third_column_of_text_is_not_dropped_without_a_word(tmp_path):
    (tmp_path / "a.tsv").write_text("One cat\tUn chat\tUn chien\n" * 6)
    with pytest.warns(
        UserWarning, match=r"column 3 holds text too.*a\.tsv#1,2 .*en-fr-fr="
    ) as said:
        rows = list(read_source(Source.parse(f"en-fr={tmp_path}/a.tsv"), Problems()))
    assert len(said) == 1
    assert rows == [("One cat", "Un chat")] * 6


V, SIDES = 30, 4


def problem(terms):
    """Loss of a batch of pairs with two wrong answers each, and its vectors in float64."""
    model = ModelConfig(layers=0, width=8, heads=2, max_length=5, dropout=0.0)
    heads = heads_of(terms, 2)
    graphdef = models.structure(model, V, heads)
    params = models.initialise(model, V, jax.random.key(0), heads)
    tokens = np.random.default_rng(0).integers(3, V, (6, SIDES, 5)).astype(np.int32)
    tokens[2, 3] = tokens[4, 1]  # a wrong answer with the text of a right one
    batch = Batch(tokens, np.zeros(6, np.int32), np.zeros((6, SIDES), np.int32))
    loss, _ = combine.loss(terms, graphdef, params, jax.tree.map(jnp.asarray, batch), None)
    flat = models.encode_tokens(graphdef, params, jnp.asarray(tokens.reshape(-1, 5)), None)
    return float(loss), np.array(flat, np.float64).reshape(6, SIDES, 8).swapaxes(0, 1), tokens


@pytest.mark.parametrize("exclude", [False, True])
def test_every_sentence_competes_with_all_wrong_answers(exclude):
    """MultipleNegativesRankingLoss with hard negatives: anchors against [B positives, 2B wrong]."""
    terms = only(
        align=AlignConfig(
            weight=1.0,
            directions="forward",
            similarity="cosine",
            temperature=0.05,
            exclude_equal=exclude,
        )
    )
    loss, vectors, tokens = problem(terms)
    unit = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    total = 0.0
    for i in range(6):
        below = sum(np.exp(20 * unit[0, i] @ unit[1, j]) for j in range(6))
        for k in (2, 3):
            for j in range(6):
                equal = (tokens[j, k] == tokens[i, 1]).all() or (tokens[j, k] == tokens[i, 0]).all()
                if not (exclude and equal):
                    below += np.exp(20 * unit[0, i] @ unit[k, j])
        total += np.log(below) - 20 * unit[0, i] @ unit[1, i]
    assert loss == pytest.approx(total / 6, rel=1e-4)


@pytest.mark.parametrize("shared", [False, True])
def test_ranking_takes_the_row_s_own_wrong_answers_or_all(shared):
    terms = only(ranking=RankingConfig(weight=1.0, direction="forward", scale=0.5))
    terms = change(terms, ranking__shared_negatives=shared)
    loss, vectors, _ = problem(terms)
    q, c, *wrong = vectors
    total = 0.0
    for i in range(6):
        below = sum(np.exp(0.5 * q[i] @ c[j]) for j in range(6))
        for n in wrong:
            below += sum(np.exp(0.5 * q[i] @ n[j]) for j in (range(6) if shared else [i]))
        total += np.log(below) - 0.5 * q[i] @ c[i]
    assert loss == pytest.approx(total / 6, rel=1e-4)


@pytest.mark.parametrize(
    ("source", "objectives", "message"),
    [
        ("en-fr-de=a.tsv", only(align=AlignConfig(weight=1.0)), "every pair of these languages"),
        ("en-fr-fr=a.tsv", only(), r"third sentence .* en-fr=a\.tsv#1,2"),
        ("en-fr-fr=a.tsv", only(ranking=RankingConfig(weight=1.0)), "direction=forward"),
    ],
)
def test_sources_that_no_objective_reads_are_refused(source, objectives, message):
    if not objectives.active():
        objectives = change(objectives, similarity__weight=1.0)
    config = change(Config(), corpus__sources=(source,), objectives=objectives)
    with pytest.raises(UserError, match=message):
        check_sides(config)
