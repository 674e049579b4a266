"""Languages of sources: a swap or a file in another language is said before the text is read."""

import pytest

from lightxling.base.errors import UserError
from lightxling.config.schema import Config, CorpusConfig, TokenizerConfig
from lightxling.corpus import everyday
from lightxling.corpus.identify import languages_of
from lightxling.corpus.prepare import prepare

ROWS = [
    dict(zip(everyday.LANGUAGES, row.texts, strict=True)) for row in everyday.read_sentences()[:150]
]


def said(folder, codes, *sides, identify=100, limit=None):
    """What `prepare` says of a file whose columns are `sides` and said to be `codes`."""
    file = folder / "text.tsv"
    lines = ["\t".join(row[side] for side in sides) + "\n" for row in ROWS[:limit]]
    file.write_text("".join(lines), "utf-8")
    corpus = CorpusConfig(
        sources=(f"{codes}={file}",), store=str(folder / "stores"), identify=identify
    )
    tokenizer = TokenizerConfig(model="words", vocab_size=50, hash_buckets=9)
    lines = []
    prepare(Config(corpus=corpus, tokenizer=tokenizer), progress=lines.append)
    return [line for line in lines if "in the languages named" in line], lines


def test_sides_in_their_languages_are_said(tmp_path, recwarn):
    (line,), _ = said(tmp_path, "en-de", "en", "de")
    assert "of the first 100 rows of en-de=" in line
    shares = [int(part.split()[1][:-1]) for part in line.partition("named: ")[2].split(", ")]
    assert min(shares) >= 80
    assert not [w for w in recwarn if "text.tsv" in str(w.message)]
    assert not said(tmp_path, "en-de", "en", "de", identify=0)[0]


def test_swapped_sides_are_said_with_the_way_out(tmp_path):
    with pytest.warns(UserWarning, match="en is mostly de, de is mostly en; .* write de-en=PATH"):
        said(tmp_path, "en-de", "de", "en")


def test_a_side_in_another_language_is_said_of_a_short_file_too(tmp_path):
    with pytest.warns(UserWarning, match="text.tsv: de is mostly fr; check the source"):
        (line,), _ = said(tmp_path, "en_GB-de", "en", "fr", limit=40)
    assert "of the first 40 rows" in line
    assert "de 0%" in line


def test_a_language_that_is_not_known_is_said(tmp_path):
    (line,), _ = said(tmp_path, "en-ast", "en", "de")
    assert "ast is not one that py3langid knows" in line


def test_the_shares_are_those_of_the_package():
    import py3langid

    texts = [row["fr"] for row in ROWS[:20]]
    assert languages_of(texts)["fr"] == sum(py3langid.classify(t)[0] == "fr" for t in texts)


def test_without_the_package_its_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"corpus\.identify needs py3langid: .*lightxling\[lid\]"):
        said(tmp_path, "en-de", "en", "de")
