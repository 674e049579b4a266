import contextlib
import functools
import gzip
import io
import json
import sys
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

import numpy as np
import pytest

from lightxling.base.errors import UserError
from lightxling.base.files import atomic
from lightxling.corpus.sources import NLI_LABELS
from lightxling.encode import mine_files
from lightxling.evaluate import run, tables, tasks
from lightxling.evaluate.tasks import TASKS, ScoringSettings, labelled, parallel
from lightxling.evaluate.tasks.units import TaskKind, TaskSettings, Unit
from lightxling.evaluate.trained_head import Head
from lightxling.saved import results
from lightxling.saved.results import save_results


def encode(texts):
    """Counts of hashed words; the words of `translate` share theirs, so that translations meet."""
    vectors = np.zeros((len(texts), 64), np.float32)
    for row, text in zip(vectors, texts, strict=True):
        for word in text.lower().replace("fr_", "").replace(".", " ").split():
            row[zlib.crc32(word.encode()) % 64] += 1
    return vectors


def translate(text):
    return " ".join(f"fr_{word}" for word in text.split())


def words(count, seed=0, length=6):
    rng = np.random.default_rng(seed)
    return [" ".join(f"w{n}" for n in rng.integers(0, 500, length)) for _ in range(count)]


def write(path, rows):
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    return path


def evaluate(task, data, folder, **options):
    screen = options.pop("screen", None) or io.StringIO()
    options = {"settings": ScoringSettings(epochs=20, seeds=2), **options}
    data = data if isinstance(data, list) else [str(data)]
    return run.evaluate(encode, "model", run.Asked([task], data, folder, **options), screen)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "evaluation"


def test_retrieval_over_tsv_gzip_and_moses_files(data, out):
    english = words(50)
    french = [translate(text) for text in english]
    write(data / "dev.en-fr.tsv", zip(english, french, strict=True))
    with gzip.open(data / "dev.en-de.tsv.gz", "wt") as file:
        file.writelines(f"{a}\t{b}\n" for a, b in zip(english, reversed(french), strict=True))
    (data / "corpus.en-it.en").write_text("\n".join(english))
    (data / "corpus.en-it.it").write_text("\n".join(french))
    first, second = evaluate("retrieval", data, out)
    assert (first["dataset"], second["dataset"]) == ("corpus", "dev")
    assert first["results"]["en-it"]["scores"]["accuracy"] == 100
    assert second["results"]["en-fr"]["scores"]["error"] == 0
    assert second["results"]["en-de"]["scores"]["accuracy"] == 0
    assert second["results"]["en-fr"]["candidates"] == 50
    assert second["results"]["en-fr"]["sentences"] == 100
    kept = json.loads((out / "retrieval.dev.json").read_text())
    assert kept.pop("means") == tables.mean_scores(second)
    assert kept == second
    assert tables.mean_scores(second)["accuracy"] == 50


def slow_bitext(src, tgt, gold):
    """Accuracy and F1 of mteb's BitextMiningEvaluator: the nearest target of every asked source by
    cosine, the first of equal ones, and scikit-learn's weighted F1 over the rows."""
    cosine = [
        [float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b)) for b in tgt] for a in src
    ]
    found = [max(range(len(row)), key=lambda j: (round(row[j], 6), -j)) for row in cosine]
    f1 = 0.0
    for label in gold:
        if label in [j for i, j in zip(gold, found, strict=True) if i == label]:
            f1 += 2 / (gold.count(label) + found.count(label))
    accuracy = sum(a == b for a, b in zip(found, gold, strict=True)) / len(gold)
    return 100 * accuracy, 100 * f1 / len(gold)


def test_retrieval_has_the_f1_of_mteb(data, out):
    rng = np.random.default_rng(3)
    english = words(40, length=3)
    french = [
        translate(english[i if rng.random() < 0.6 else int(rng.integers(40))]) for i in range(40)
    ]
    write(data / "x.en-fr.tsv", zip(english, french, strict=True))
    scores = evaluate("retrieval", data, out)[0]["results"]["en-fr"]["scores"]
    src, tgt = encode(english), encode(french)
    by_row, f1 = slow_bitext(src, tgt, list(range(40)))
    assert scores["forward_f1"] == pytest.approx(f1)
    assert scores["backward_f1"] == pytest.approx(slow_bitext(tgt, src, list(range(40)))[1])
    assert 10 < f1 < by_row < scores["forward"] < 100  # the first of equal texts is one row only
    settings = ScoringSettings(scoring="csls")
    assert (
        "forward_f1"
        not in evaluate("retrieval", data, out, settings=settings)[0]["results"]["en-fr"]["scores"]
    )


def test_the_table_says_how_many_texts_repeat(data, out):
    write(data / "x.en-fr.tsv", [("a", "fr_a"), ("b", "fr_a"), ("c", "fr_c")])
    screen = io.StringIO()
    (results,) = evaluate("retrieval", data, out, screen=screen)
    assert results["results"]["en-fr"]["repeated_texts"] == [0, 1]
    assert "repeated" in screen.getvalue()
    assert "0 and 1" in screen.getvalue()


def test_duplicates_count_by_text_and_blank_pairs_are_left_out(data, out):
    english = ["a b", "c d", "c d", "", "e"]
    french = ["fr_a fr_b", "fr_c fr_d", "fr_c fr_d", "fr_x", "fr_e"]
    write(data / "x.en-fr.tsv", zip(english, french, strict=True))
    with pytest.warns(UserWarning, match="1 left out: blank side"):
        (results,) = evaluate("retrieval", data, out)
    unit = results["results"]["en-fr"]
    assert (unit["scores"]["accuracy"], unit["scores"]["by_row"]) == (100, 50)
    assert unit["candidates"] == 4
    assert unit["repeated_texts"] == [1, 1]


def test_sides_of_different_length_are_named(data, out):
    (data / "x.en-fr.en").write_text("one\ntwo\n")
    (data / "x.en-fr.fr").write_text("un\n")
    with pytest.raises(UserError, match=r"x\.en-fr\.fr ends after line 1"):
        evaluate("retrieval", data, out)


def test_languages_are_those_wanted_or_those_of_the_encoder(data, out):
    for language in ("fr", "de", "it"):
        write(data / f"dev.en-{language}.tsv", [("a", "fr_a"), ("b", "fr_b")])

    def names(**options):
        return list(evaluate("retrieval", data, out, **options)[0]["results"])

    assert names() == ["en-de", "en-fr", "en-it"]
    with pytest.warns(UserWarning, match="not trained on de, it"):
        assert names(trained=["en", "fr"]) == ["en-fr"]
    assert names(trained=["en", "fr"], languages=["it", "de"]) == ["en-de", "en-it"]
    with pytest.raises(UserError, match=r"there is no es in .*; there is de, en, fr, it"):
        names(languages=["es"])
    with pytest.raises(UserError, match="none of them"):
        names(trained=["en", "xx"])


def test_tatoeba_layout_and_three_letter_codes(data, out):
    english = words(30)
    for code in ("fra", "deu"):
        (data / f"tatoeba.{code}-eng.{code}").write_text("\n".join(map(translate, english)))
        (data / f"tatoeba.{code}-eng.eng").write_text("\n".join(english))
    (results,) = evaluate("tatoeba", data, out, languages=["fr"])
    assert list(results["results"]) == ["fra-eng"]
    assert results["results"]["fra-eng"]["scores"]["error"] == 0


def test_tatoeba_of_tensorflow_datasets_names_its_fields():
    units = TASKS["tatoeba"].find(["tfds"], ScoringSettings())
    assert len(units) == 36
    (french,) = tasks.select_units(units, ["fr"], [], "tfds")
    assert french.languages == ("fr", "en")
    source = french.pairs.args[0]
    assert source.path == "tfds:tatoeba/tatoeba_fr#source_sentence,target_sentence"


def test_muse_order_by_hand():
    src = ["c", "a", "A", "B  b", "d"]
    tgt = ["y", "x", "z", "Y", "w"]
    # Unique on the source: (c, y) (a, x) (b b, y) (d, w). Unique on the target, sources in order:
    # a x, b b y, d w. Sorted by target: w x y; then permutation(3) of seed 1234.
    order = np.random.RandomState(1234).permutation(3)
    expected = [[("d", "w"), ("a", "x"), ("b b", "y")][i] for i in order]
    found = parallel.muse_order(src, tgt, lowercase=True)
    assert list(zip(*found, strict=True)) == expected
    assert len(parallel.muse_order(src, tgt, lowercase=False)[0]) == 5


def test_europarl_counts_its_queries_and_candidates(data, out):
    english = sorted(set(words(120)))
    write(data / "ep.en-fr.tsv", [(text, translate(text)) for text in english])
    settings = ScoringSettings(queries=20, candidates=60)
    (results,) = evaluate("europarl", data, out, settings=settings)
    unit = results["results"]["en-fr"]
    assert (unit["queries"], unit["candidates"]) == (20, 60)
    assert unit["sentences"] == 2 * (20 + 60)
    assert unit["scores"]["accuracy"] == 100
    (whole,) = evaluate("europarl", data, out)
    assert whole["results"]["en-fr"]["candidates"] == len(english)
    with pytest.raises(UserError, match="margin"):
        evaluate("europarl", data, out, settings=ScoringSettings(scoring="margin"))


def bucc(data, split, count, seed):
    english = words(count, seed)
    noise = [translate(text) for text in words(count, seed + 100)]
    gold = range(0, count, 2)
    french = [translate(english[i]) if i in gold else noise[i] for i in range(count)]
    write(data / f"fr-en.{split}.fr", [(f"fr-{i}", text) for i, text in enumerate(french)])
    write(data / f"fr-en.{split}.en", [(f"en-{i}", text) for i, text in enumerate(english)])
    write(data / f"fr-en.{split}.gold", [(f"fr-{i}", f"en-{i}") for i in gold])


def test_bucc_fits_on_training_and_measures_on_test(data, out):
    bucc(data, "training", 60, 0)
    bucc(data, "test", 40, 1)
    (results,) = evaluate("bucc", data, out)
    unit = results["results"]["fr-en"]
    assert unit["fitted_on"] == "training"
    assert unit["candidates"] == {"training": [60, 60], "test": [40, 40]}
    assert unit["gold"] == {"training": 30, "test": 20}
    assert unit["scores"]["f1"] > 90
    assert unit["scores"]["f1_fitted"] > 90
    (data / "fr-en.training.gold").unlink()
    (data / "fr-en.test.gold").unlink()
    with pytest.raises(UserError, match="gold is missing"):
        evaluate("bucc", data, out)


def slow_bucc(data, split, threshold):
    """F1 as LASER's bucc.py has it: candidates with a text that a file has twice are dropped, and
    recall divides by all gold pairs. Candidates: of the union of both directions, each sentence
    once, best first, by the ratio margin over 4 neighbours."""

    def read(end):
        return [
            line.split("\t") for line in (data / f"fr-en.{split}.{end}").read_text().splitlines()
        ]

    sides, gold = [read("fr"), read("en")], {tuple(pair) for pair in read("gold")}
    unique = [list(dict.fromkeys(text for _, text in side)) for side in sides]
    x, y = (encode(texts).astype(float) for texts in unique)
    cosine = (x / np.linalg.norm(x, axis=1)[:, None]) @ (y / np.linalg.norm(y, axis=1)[:, None]).T
    near = [np.sort(c, axis=1)[:, -4:].mean(axis=1) for c in (cosine, cosine.T)]
    margin = cosine / ((near[0][:, None] + near[1][None]) / 2)
    scored = {}
    for table, flip in ((cosine, False), (cosine.T, True)):
        for i, row in enumerate(table):
            pairs = [(j, i) if flip else (i, j) for j in np.argsort(-row, kind="stable")[:4]]
            best = max(pairs, key=lambda pair: margin[pair])
            scored[best] = margin[best]
    used, kept = (set(), set()), []
    for i, j in sorted(scored, key=scored.get, reverse=True):
        if i not in used[0] and j not in used[1]:
            used[0].add(i), used[1].add(j), kept.append((i, j))
    ids = [{}, {}]
    for known, side in zip(ids, sides, strict=True):
        for name, text in side:
            known.setdefault(text, []).append(name)
    found = [
        (ids[0][unique[0][i]], ids[1][unique[1][j]]) for i, j in kept if scored[i, j] >= threshold
    ]
    single = [(a[0], b[0]) for a, b in found if len(a) == len(b) == 1]
    hits = sum(pair in gold for pair in single)
    precision, recall = hits / len(single), hits / len(gold)
    return 100 * recall, 100 * 2 * precision * recall / (precision + recall)


def test_bucc_recall_divides_by_all_gold_pairs_and_has_the_scores_of_mteb(data, out):
    bucc(data, "training", 60, 0)
    bucc(data, "test", 40, 1)
    for end, row in (("fr", 7), ("en", 9)):  # texts of gold pairs once more, and last
        path = data / f"fr-en.test.{end}"
        lines = path.read_text().splitlines()
        text = lines[row - 1].split("\t")[1]
        path.write_text("\n".join([*lines, f"{end}-again\t{text}"]) + "\n")
    gold = data / "fr-en.test.gold"
    gold.write_text(gold.read_text() + "fr-again\ten-again\n")
    (results,) = evaluate("bucc", data, out)
    unit = results["results"]["fr-en"]
    assert (unit["gold"]["test"], unit["dropped_gold"]["test"]) == (21, 3)
    recall, f1 = slow_bucc(data, "test", unit["threshold"])
    assert unit["scores"]["recall"] == pytest.approx(recall)
    assert unit["scores"]["f1"] == pytest.approx(f1)
    assert recall < 90

    sides = [
        [line.split("\t") for line in (data / f"fr-en.test.{end}").read_text().splitlines()]
        for end in ("fr", "en")
    ]
    rows = [{name: row for row, (name, _) in enumerate(side)} for side in sides]
    pairs = [line.split("\t") for line in gold.read_text().splitlines()]
    src, tgt = (encode([text for _, text in side]) for side in sides)
    asked = src[[rows[0][a] for a, _ in pairs]]
    accuracy, mteb = slow_bitext(asked, tgt, [rows[1][b] for _, b in pairs])
    assert unit["scores"]["mteb_accuracy"] == pytest.approx(accuracy)
    assert unit["scores"]["mteb_f1"] == pytest.approx(mteb)
    assert accuracy < 100


def write_labelled(data, name, count, seed, strange=None):
    rng = np.random.default_rng(seed)
    topics = {"games": range(20), "science": range(20, 40), "text": range(40, 60)}
    rows = []
    for i in range(count):
        label = list(topics)[i % 3]
        text = ". ".join(
            f"w{rng.choice(topics[label])} w{rng.choice(topics[label])}" for _ in "123"
        )
        rows.append((label, translate(text) if ".fr" in name else text))
    return write(data / name, rows + ([strange] if strange else []))


@pytest.mark.parametrize("head", ["mlp", "logistic"])
def test_classification_is_trained_once_and_tested_in_every_language(data, out, head):
    write_labelled(data, "topic.train.en.tsv", 90, 0)
    write_labelled(data, "topic.dev.en.tsv", 30, 1)
    write_labelled(data, "topic.dev.fr.tsv", 30, 2)
    calls = []

    def counting(texts):
        calls.append(len(texts))
        return encode(texts)

    settings = ScoringSettings(epochs=30, seeds=2, head=head)
    asked = run.Asked(["classification"], [str(data)], out, settings=settings)
    (results,) = run.evaluate(counting, "m", asked)
    assert calls == [270, 90, 90]  # three sentences a document; the training set once
    for language in ("en", "fr"):
        unit = results["results"][language]
        assert unit["scores"]["accuracy"] > 80
        assert unit["classes"] == ["games", "science", "text"]
        assert np.sum(unit["confusion"]) == pytest.approx(unit["documents"])
        assert unit["selected_on"] == "a tenth of topic.train.en.tsv"
        assert unit["trained_on"] == "81 of topic.train.en.tsv"


def test_mldoc_names_and_selection_on_the_development_file(data, out):
    write_labelled(data, "english.train.1000", 60, 0)
    write_labelled(data, "english.dev", 30, 1)
    write_labelled(data, "french.dev", 30, 2)
    write_labelled(data, "french.test", 30, 3)
    write_labelled(data, "english.test", 30, 4)
    (results,) = evaluate("mldoc", data, out, settings=ScoringSettings(head="logistic"))
    assert list(results["results"]) == ["en", "fr"]
    assert results["results"]["fr"]["selected_on"] == "english.dev"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("debsect.train.en.tsv.gz", ("debsect", "train", "en")),
        ("mldoc.train1000.en", ("mldoc", "train", "en")),
        ("german.train.1000", ("", "train", "de")),
        ("xnli.dev.fr.tsv", ("xnli", "dev", "fr")),
        ("my.set.valid.pt_BR.txt", ("my.set", "dev", "pt_BR")),
        ("README.md", None),
        ("counts.tsv", None),
    ],
)
def test_file_names_of_labelled_sets(name, expected):
    assert labelled._split_and_language(name) == expected


def test_labels_that_do_not_fit_are_named(data, out):
    write_labelled(data, "topic.train.en.tsv", 60, 0)
    write_labelled(data, "topic.test.fr.tsv", 30, 1, strange=("cooking", "fr_w1"))
    with pytest.raises(UserError, match=r"topic\.test\.fr\.tsv: label 'cooking' does not occur"):
        evaluate("classification", data, out, settings=ScoringSettings(head="logistic"))
    write_labelled(data, "topic.test.fr.tsv", 30, 1, strange=("", "fr_w1"))
    with pytest.raises(UserError, match="row 31 has an empty label"):
        evaluate("classification", data, out, settings=ScoringSettings(head="logistic"))
    write_labelled(data, "topic.test.fr.tsv", 30, 1, strange=("games",))
    with pytest.raises(UserError, match=r"topic\.test\.fr\.tsv:31: 1 of 2 columns"):
        evaluate("classification", data, out, settings=ScoringSettings(head="logistic"))
    write(data / "topic.train.en.tsv", [("games", "w1"), ("games", "w2")])
    with pytest.raises(UserError, match="one label only, 'games'"):
        evaluate("classification", data, out)
    (data / "topic.train.en.tsv").unlink()
    with pytest.raises(UserError, match="no training file in en"):
        evaluate("classification", data, out)


def test_a_class_too_small_to_hold_out_is_named(data, out):
    write_labelled(data, "topic.test.fr.tsv", 30, 1)
    rows = [("games", "w1")] * 40
    held = np.random.default_rng(0).permutation(40)[:4]  # the tenth that is held out
    rows[held[0]] = ("rare", "w2")
    write(data / "topic.train.en.tsv", rows)
    with pytest.raises(UserError, match="label 'rare' has too few documents"):
        evaluate("classification", data, out)


def test_documents_are_means_of_their_sentences():
    settings = ScoringSettings(documents="sentences")
    vectors = labelled._document_vectors(encode, [("a b. c d.",), ("e",)], settings, strip=False)
    np.testing.assert_allclose(vectors[0], encode(["a b c d"])[0] / 2)
    np.testing.assert_allclose(vectors[1], encode(["e"])[0])
    whole = labelled._document_vectors(
        encode, [("a (c) Reuters Limited 1997 b.",)], ScoringSettings(documents="whole"), strip=True
    )
    np.testing.assert_allclose(whole, encode(["a b"]))
    assert labelled.cut_sentences("One. Two! 三。四।Five 3.5") == [
        "One.",
        "Two!",
        "三。",
        "四।",
        "Five 3.5",
    ]
    assert labelled.cut_sentences("") == [""]


def test_nli_reads_plain_and_headed_files(data, out):
    rows = [("entailment", "w1 w2", "w1 w2"), ("contradiction", "w1 w2", "w7 w8")] * 20
    write(
        data / "xnli.train.en.tsv",
        [("premise", "hypo", "label")]
        + [(b, c, {"contradiction": "contradictory"}.get(a, a)) for a, b, c in rows],
    )
    write(data / "xnli.test.fr.tsv", [(a, translate(b), translate(c)) for a, b, c in rows])
    (results,) = evaluate("nli", data, out, settings=ScoringSettings(epochs=3, seeds=1))
    unit = results["results"]["fr"]
    assert unit["classes"] == ["contradiction", "entailment"]
    assert unit["scores"]["accuracy"] == 100


def test_another_trained_head_on_the_same_encoder_is_scored_again(data, out):
    write(data / "xnli.test.fr.tsv", [("entailment", "fr_w1", "fr_w2"), ("neutral", "fr_w1", "w3")])

    def go(best):
        asked = run.Asked(["nli"], [str(data)], out, settings=ScoringSettings(head="trained"))
        shapes = {"hidden.kernel": (256, 2), "hidden.bias": 2, "out.kernel": (2, 3)}
        weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        bias = np.eye(3, dtype=np.float32)[NLI_LABELS.index(best)]
        own = functools.partial(encode)
        own.inference = Head(weights | {"out.bias": bias})
        (results,) = run.evaluate(own, "model", asked, io.StringIO())
        return results["results"]["fr"]["confusion"]

    first = go("entailment")
    assert first != go("neutral")
    assert first == go("entailment")


def test_sts_within_across_and_pooled(data, out):
    texts = words(40, length=4)
    rng = np.random.default_rng(0)
    for pair, change in (("en-en", str), ("en-fr", translate), ("en-de", translate)):
        rows = []
        for text in texts:
            kept = int(rng.integers(0, 5))
            other = text.split()[:kept] + [f"v{n}" for n in rng.integers(0, 500, 4 - kept)]
            rows.append((kept + rng.normal() / 10, text, change(" ".join(other))))
        write(data / f"s.dev.{pair}.tsv", rows)
    write(data / "s.train.en-en.tsv", [(1, "a", "b")])
    (results,) = evaluate("sts", data, out)
    assert list(results["results"]) == ["en-de", "en-en", "en-fr", "pooled"]
    assert results["results"]["en-fr"]["scores"]["spearman"] > 80
    assert results["results"]["pooled"]["pooled"] == ["en-de", "en-fr"]
    assert abs(results["results"]["pooled"]["scores"]["language_bias"]) < 10
    assert "pooled" not in evaluate("sts", data, out, languages=["fr"])[0]["results"]
    for score in ("x", "nan", "inf", "-1e999"):
        write(data / "s.dev.en-fr.tsv", [(1, "a", "b"), (score, "a", "b")])
        message = rf"s\.dev\.en-fr\.tsv: '{score}' in row 2 is not a number"
        with pytest.raises(UserError, match=message):
            evaluate("sts", data, out)


def test_results_are_kept_until_model_data_or_settings_change(data, out):
    path = write(data / "dev.en-fr.tsv", [("a", "fr_a"), ("b", "fr_b")])
    calls = []

    def counting(texts):
        calls.append(len(texts))
        return encode(texts)

    def go(fingerprint="one", **options):
        calls.clear()
        asked = run.Asked(["retrieval"], [str(data)], out, **options)
        run.evaluate(counting, fingerprint, asked, io.StringIO())
        return bool(calls)

    assert go()
    assert not go()
    assert go(again=True)
    assert go("two")
    assert not go("two")
    assert go("two", settings=ScoringSettings(scoring="csls"))
    assert not go("two")  # the other settings lie in another file
    assert {p.name for p in out.iterdir()} == {
        "retrieval.dev.json",
        "retrieval.dev.scoring=csls.json",
    }
    path.write_text("a\tfr_a\n")
    assert go("two")
    (out / "retrieval.dev.json").write_text("{half")
    assert go("two")


def test_other_languages_stay_in_the_file(data, out):
    for language in ("fr", "de"):
        write(data / f"dev.en-{language}.tsv", [("a", "fr_a"), ("b", "fr_b")])
    evaluate("retrieval", data, out, languages=["fr"])
    (shown,) = evaluate("retrieval", data, out, languages=["de"])
    assert list(shown["results"]) == ["en-de"]
    assert set(results.load_results(out / "retrieval.dev.json")["results"]) == {"en-de", "en-fr"}


def test_languages_scored_with_another_encoder_leave_the_file(data, out, capsys):
    for language in ("fr", "de", "it"):
        write(data / f"dev.en-{language}.tsv", [("a", "fr_a"), ("b", "fr_b")])

    def go(fingerprint, *languages):
        asked = run.Asked(["retrieval"], [str(data)], out, languages)
        run.evaluate(encode, fingerprint, asked)
        units = results.load_results(out / "retrieval.dev.json")["results"]
        assert {unit["encoder"] for unit in units.values()} == {fingerprint}
        return sorted(units), capsys.readouterr().out

    assert go("one", "fr", "de")[0] == ["en-de", "en-fr"]
    kept, told = go("two", "it", "de")
    assert kept == ["en-de", "en-it"]
    assert "retrieval.dev.json: left out en-fr, scores of another encoder" in told
    kept, told = go("two", "fr")
    assert kept == ["en-de", "en-fr", "en-it"]
    assert "left out" not in told


def test_scores_without_their_encoder_are_kept_if_their_key_proves_it(data, out):
    for language in ("fr", "de", "it"):
        write(data / f"dev.en-{language}.tsv", [("a", "fr_a"), ("b", "fr_b")])
    (first,) = evaluate("retrieval", data, out)
    for unit in first["results"].values():
        del unit["encoder"]
    file = out / "retrieval.dev.json"
    file.write_text(json.dumps(first))

    def refuse(texts):
        raise AssertionError

    asked = run.Asked(["retrieval"], [str(data)], out, ["fr", "de"])
    run.evaluate(refuse, "model", asked, io.StringIO())
    units = json.loads(file.read_text())["results"]
    assert {name: unit["encoder"] for name, unit in units.items()} == {
        "en-de": "model",
        "en-fr": "model",
    }


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("retrieval", "dev.en-de.tsv"),
        ("sts", "dev.en-de.tsv"),
        ("classification", "topic.train.en.tsv"),
        ("bucc", "fr-en.training.fr"),
    ],
)
def test_files_of_one_name_do_not_replace_each_other(data, out, task, name):
    paths = []
    for folder in ("a", "b"):
        (data / folder).mkdir()
        paths.append(str(write(data / folder / name, [(1, "a", "b")])))
    with pytest.raises(UserError, match=rf"a/{name} and .*b/{name} are both .*; rename one"):
        evaluate(task, paths, out)
    assert not out.exists()


def test_a_file_given_twice_counts_once(data, out):
    rows = [(1, "a", "fr_a"), (2, "b", "c"), (3, "d", "d e")]
    for language in ("fr", "de"):
        write(data / f"s.en-{language}.tsv", rows)
    (results,) = evaluate("sts", [str(data), str(data / "s.en-fr.tsv")], out)
    assert results["results"]["pooled"]["pooled"] == ["en-de", "en-fr"]
    pairs = [row[1:] for row in rows]
    path = write(data / "p.en-fr.tsv", pairs)
    assert len(parallel.parallel([str(path), str(data / ".." / data.name / path.name)])) == 1


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("old")
    with contextlib.suppress(RuntimeError), atomic(path) as temporary:
        temporary.write_text("ne")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_table_shows_scores_candidates_and_the_mean(data, out, capsys):
    for language in ("fr", "de"):
        write(data / f"dev.en-{language}.tsv", [("a", "fr_a"), ("b", "fr_b")])
    evaluate("retrieval", data, out, screen=sys.stdout)
    shown = capsys.readouterr().out
    assert "en-fr" in shown
    assert "candidates" in shown
    assert "mean of 2" in shown
    assert "100.0" in shown


def test_files_that_a_task_does_not_read_are_said(data, out):
    write(data / "a.en-fr.tsv", [("a", "fr_a"), ("b", "fr_b")])
    for name in ("notes.md", "a.english-french.tsv", "b.tsv", "c.tsv", ".hidden"):
        write(data / name, [("a", "b")])
    said = r"4 files of .* not read by retrieval: a.english-french.tsv, b.tsv, c.tsv, \.\.\."
    with pytest.warns(UserWarning, match=said):
        evaluate("retrieval", data, out)


def test_unknown_tasks_and_empty_folders_say_what_to_type(data, out):
    with pytest.raises(UserError, match="no task 'retreival'; there are retrieval, ranking, tato"):
        evaluate("retreival", data, out)
    for task in TASKS:
        with pytest.raises(UserError, match=str(data)):
            evaluate(task, data, out)
    with pytest.raises(UserError, match="no such file or folder"):
        evaluate("retrieval", data / "nothing", out)
    write(data / "pairs.txt", [("a", "fr_a"), ("b", "fr_b")])
    with pytest.raises(UserError, match=r"--data en-fr=.*pairs\.txt"):
        evaluate("retrieval", data / "pairs.txt", out)
    (results,) = evaluate("retrieval", [f"en-fr={data / 'pairs.txt'}"], out)
    assert results["dataset"] == "pairs"
    with pytest.raises(UserError, match="--data is empty; give files, folders"):
        evaluate("retrieval", [], out)
    with pytest.raises(UserError, match="--task is empty; there are retrieval, ranking"):
        run.evaluate(encode, "model", run.Asked([], [str(data)], out))


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [
        ("neighbours", 0, 1),
        ("neighbours", -1, 1),
        ("queries", 0, 1),
        ("candidates", -1, 1),
        ("seeds", 0, 1),
        ("epochs", -1, 0),
    ],
)
def test_numbers_too_small_are_refused(name, value, least):
    for kind in (ScoringSettings, mine_files.MineSettings):
        if hasattr(kind, name):
            with pytest.raises(UserError, match=f"--{name} {value} is too few; use {least} or"):
                kind(**{name: value})
            kind(**{name: least})


def test_a_folder_that_cannot_be_made_is_named_before_the_work(data, tmp_path):
    write(data / "dev.en-fr.tsv", [("a", "fr_a"), ("b", "fr_b")])
    file = tmp_path / "file"
    file.touch()

    def refuse(texts):
        raise AssertionError

    for folder in (file, file / "below"):
        with pytest.raises(UserError, match=f"cannot make the folder {folder}: .* --output"):
            run.evaluate(refuse, "m", run.Asked(["retrieval"], [str(data)], folder))


def test_units_without_scores_are_left_out(tmp_path):
    units = {"en-de": {"scores": {}}, "en-fr": {"scores": {"accuracy": 3.0}}}
    (tmp_path / "x.json").write_text(json.dumps({"results": units}))
    assert list(results.load_results(tmp_path / "x.json")["results"]) == ["en-fr"]


@pytest.mark.parametrize("search", ["exact", "faiss"])
def test_mining_two_files(data, search, monkeypatch):
    if search == "faiss":
        pytest.importorskip("faiss")
        monkeypatch.setattr(mine_files, "IN_MEMORY", 10)  # vectors go through a float16 file
    english = words(40)
    (data / "en").write_text("\n".join([*english, "", english[0], "tab\tinside"]) + "\n")
    (data / "fr").write_text("\n".join(translate(text) for text in reversed(english[:30])) + "\n")
    output = data / "pairs.tsv"
    settings = mine_files.MineSettings(search=search, threshold=1.05)
    done = mine_files.mine_files(encode, data / "en", data / "fr", output, settings)
    rows = [line.split("\t") for line in output.read_text().splitlines()]
    assert done["sentences"] == [41, 30]
    assert done["pairs"] == len(rows)
    assert sum(other == translate(one) for _, one, other in rows) >= 29
    scores = [float(row[0]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] >= 1.05
    assert {path.name for path in data.iterdir()} == {"en", "fr", "pairs.tsv"}


def test_mining_tells_what_it_left_out(data):
    lines = ["w1 w2", "\udcff", "w3 w4", "w5\0"]
    for name in ("en", "fr"):
        (data / name).write_text("\n".join(lines) + "\n", errors="surrogateescape")
    told = []
    files = data / "en", data / "fr", data / "pairs.tsv"
    with pytest.warns(UserWarning, match="1 left out") as caught:
        mine_files.mine_files(encode, *files, progress=told.append)
    warned = [str(one.message) for one in caught]
    assert f"1 left out: invalid UTF-8 ({data}/en:2)" in warned
    assert f"1 left out: NUL byte (UTF-16?) ({data}/fr:4)" in warned
    assert f"{data}/en: 2 different sentences" in told


def test_mining_nothing_is_an_error(data):
    (data / "en").write_text("\n \n")
    with pytest.raises(UserError, match="holds no sentences"):
        mine_files.mine_files(encode, data / "en", data / "en", data / "out")
    with pytest.raises(UserError, match="there is no folder"):
        mine_files.mine_files(encode, data / "en", data / "en", data / "x" / "out")


def test_pictures_are_drawn(data, out):
    english = words(60)
    for language in ("fr", "de"):
        rows = [(text, translate(text)) for text in english]
        write(data / f"dev.en-{language}.tsv", rows)
    (found,) = evaluate("retrieval", data, out, plot=True)
    pages = {path.name: path.read_text("utf-8") for path in out.glob("*.html")}
    pictures = {
        name: ET.fromstring(page.removeprefix("<!DOCTYPE html>")) for name, page in pages.items()
    }
    assert set(pictures) == {
        "retrieval.dev.html",
        "similarity.dev.en-fr.html",
        "similarity.dev.en-de.html",
        "map.html",
    }
    bars = [text.text for text in pictures["retrieval.dev.html"].iter("text")]
    for name, unit in found["results"].items():
        assert bars[bars.index(name) + 1] == f"{unit['scores']['accuracy']:.1f}"
    cells = [e for e in pictures["similarity.dev.en-fr.html"].iter("rect") if list(e)]
    shades = np.reshape([float(e.get("fill-opacity")) for e in cells], (40, 40))
    assert (shades.argmax(axis=1) == np.arange(40)).all()  # a translation has the same vector
    dots = list(pictures["map.html"].iter("circle"))
    squares = [e for e in pictures["map.html"].iter("rect") if e.get("class") == "square"]
    assert (len(dots), len(squares)) == (8, 16)  # a sentence, and its translations
    evaluate("retrieval", data, out, plot=True, settings=ScoringSettings(scoring="csls"))
    assert (out / "retrieval.dev.scoring=csls.html").is_file()
    assert (out / "retrieval.dev.html").read_text("utf-8") == pages["retrieval.dev.html"]


def test_a_benchmark_is_one_entry(data, out, monkeypatch):
    write(data / "words.txt", [("one two",)])

    def find(data, settings):
        def run(encode):
            return {"scores": {"words": float(len(encode(["one two"])[0]))}}

        return [Unit("d", "en", ("en",), lambda: [Path(data[0]) / "words.txt"], run)]

    monkeypatch.setitem(TASKS, "words", TaskKind(find, TaskSettings, "words", ()))
    (results,) = evaluate("words", data, out, plot=True)
    kept = json.loads((out / "words.d.json").read_text())
    assert kept.pop("means") == kept["results"]["en"]["scores"]
    assert kept == results
    assert (kept["settings"], list(kept["results"])) == ({}, ["en"])
    width = kept["results"]["en"]["scores"]["words"]
    assert width == len(encode(["one two"])[0])
    assert f">{width:.1f}<" in (out / "words.d.html").read_text("utf-8")


def test_principal_plane_equals_the_eigenvectors_of_the_covariance():
    from lightxling.evaluate.report.sentences import principal_plane

    x = np.random.default_rng(0).normal(size=(50, 4)) * [5, 3, 0.1, 0.1]
    points, share = principal_plane(x)
    values, axes = np.linalg.eigh(np.cov(x.T))
    np.testing.assert_allclose(share, values[-2:].sum() / values.sum())
    expected = (x - x.mean(axis=0)) @ axes[:, [-1, -2]]
    np.testing.assert_allclose(np.abs(points), np.abs(expected))
    assert principal_plane(np.ones((3, 4)))[1] == 0


def test_ranking_among_some_drawn_at_random(data, out):
    english = words(60)
    write(data / "dev.en-fr.tsv", [(text, translate(text)) for text in english])
    (results,) = evaluate("ranking", data, out)
    unit = results["results"]["en-fr"]
    assert (unit["queries"], unit["candidates"]) == (60, 60)  # there are no thousand
    scores = unit["scores"]
    assert scores["p_at_1"] == (scores["forward"] + scores["backward"]) / 2 > 90
    assert scores["p_at_1"] <= scores["p_at_3"] <= scores["p_at_10"] == 100
    assert scores["eigen_similarity"] == pytest.approx(0)  # the same vectors
    (fewer,) = evaluate("ranking", data, out, settings=ScoringSettings(among=20, product="cosine"))
    assert fewer["results"]["en-fr"]["candidates"] == 20
    with pytest.raises(UserError, match="--among 1 leaves nothing"):
        evaluate("ranking", data, out, settings=ScoringSettings(among=1))


def test_few_shots_of_a_tested_file_are_half_of_it_at_most():
    shots, tested = labelled.few_shots(40, 0.25, False)
    more, same = labelled.few_shots(40, 1.0, False)
    assert (len(shots), len(more), len(tested)) == (5, 20, 20)
    assert set(shots) < set(more)
    assert not set(more) & set(tested)
    assert tested.tolist() == same.tolist()
    assert len(labelled.few_shots(40, 0.5, True)[0]) == 20


def foreign(path, rows, seed):
    """Documents whose words tell their class only to whom has seen them."""
    rng = np.random.default_rng(seed)
    lines = []
    for i in range(rows):
        topic = ("science", "games", "text")[i % 3]
        drawn = [f"xx{'abc'[i % 3]}{n}" for n in rng.integers(0, 5, 6)]
        lines.append((topic, " ".join(drawn) + "."))
    write(path, lines)


@pytest.mark.parametrize("has_training_file", [True, False])
def test_few_shots_in_the_tested_language_help(data, out, has_training_file):
    write_labelled(data, "topic.train.en.tsv", 90, 0)
    write_labelled(data, "topic.test.en.tsv", 30, 1)
    foreign(data / "topic.test.fr.tsv", 60, 2)
    if has_training_file:
        foreign(data / "topic.train.fr.tsv", 45, 3)
    settings = ScoringSettings(head="logistic", few_shot=0.6)
    (results,) = evaluate("classification", data, out, settings=settings)
    unit = results["results"]["fr"]
    shots, tested = (27, 60) if has_training_file else (18, 30)
    name = "topic.train.fr.tsv" if has_training_file else "topic.test.fr.tsv"
    assert (unit["few_shot"], unit["documents"]) == (f"{shots} of {name}", tested)
    assert unit["scores"]["accuracy"] > unit["scores"]["zero_shot_accuracy"] + 20
    home = results["results"]["en"]
    assert "zero_shot_accuracy" not in home["scores"]
    assert home["documents"] == 30
    with pytest.raises(UserError, match=r"--few-shot 1\.5 should be a share"):
        evaluate("classification", data, out, settings=ScoringSettings(few_shot=1.5))


def test_means_are_kept_beside_the_units(tmp_path):
    """Of all units of the file, also those of an earlier evaluation; the pooled one apart."""

    def save(**scores):
        units = {name: {"scores": {"a": x}, "encoder": "e"} for name, x in scores.items()}
        save_results(tmp_path / "r.json", {"task": "sts", "results": units}, "e")

    save(first=1.0)
    save(second=4.0, pooled=9.0)
    assert json.loads((tmp_path / "r.json").read_text("utf-8"))["means"] == {"a": 2.5}
