"""The pieces that languages use, beside an encoder whose training text is not there."""

import sys
from pathlib import Path

import numpy as np
import pytest
from export_samples import KINDS, bundle, tokenizer

from lightxling.base.errors import UserError
from lightxling.base.places import packaged
from lightxling.corpus import everyday
from lightxling.encode.encoder import Encoder
from lightxling.evaluate.retrieval import precision_by_text
from lightxling.export import export
from lightxling.export.formats import write_format
from lightxling.export.settings import ExportSettings
from lightxling.saved.bundle import load_bundle
from lightxling.saved.piece_use import FILE, read_piece_use, write_piece_use

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import piece_use as counting

sys.path.pop(0)

ENGLISH, FRENCH = ["the cat is in the house", "where is the station"], ["où est la gare", "le chat"]


@pytest.mark.parametrize("kind", KINDS)
def test_sentences_of_the_languages_keep_their_vectors(kind, tmp_path, capsys):
    """Counted in a text of three languages, cut to two: what these hold is encoded as before."""
    folder = tmp_path / "model"
    folder.mkdir()
    write_format(bundle(tokenizer(*KINDS[kind])), folder, "safetensors")
    for code, rows in (("fr", FRENCH), ("de", ["wo ist dies", "und im haus"])):
        lines = [f"{a}\t{b}\n" for a, b in zip(ENGLISH, rows, strict=True)]
        (tmp_path / f"{code}.tsv").write_text("".join(lines), "utf-8")
    sources = [f"en-{code}={tmp_path}/{code}.tsv" for code in ("fr", "de")]
    counting.write(folder, sources, limit=9, least=1)
    report = export(ExportSettings(folder, tmp_path / "small", languages=("en", "fr")))
    small, whole = Encoder.load(report.folder), Encoder.load(folder)
    assert small.tokenizer.vocab_size < whole.tokenizer.vocab_size
    texts = ENGLISH + FRENCH
    np.testing.assert_allclose(small.encode(texts), whole.encode(texts), atol=1e-5)
    assert small.languages == ("en", "fr")


def test_what_is_read_is_what_was_written(tmp_path):
    used = {"en": np.arange(13) % 2 == 0, "fr": np.arange(13) < 3, "ug": np.arange(13) == 12}
    write_piece_use(tmp_path, b"pieces", used)
    found = read_piece_use(tmp_path, b"pieces", ["fr", "ug"], 13)
    assert np.flatnonzero(found).tolist() == [0, 1, 2, 12]
    assert read_piece_use(tmp_path, b"other pieces", ["fr"], 13) is None  # it is of another encoder
    assert read_piece_use(tmp_path / "none", b"pieces", ["fr"], 13) is None
    with pytest.raises(UserError, match="does not say which pieces xx; name a text with --text"):
        read_piece_use(tmp_path, b"pieces", ["fr", "xx"], 13)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:100])
    with pytest.raises(UserError, match=r"pieces\.npz is damaged.*install lightxling again"):
        read_piece_use(tmp_path, b"pieces", ["fr"], 13)


WITH_FILE = [name for name, folder in packaged().items() if (folder / FILE).is_file()]


@pytest.mark.parametrize("name", WITH_FILE)
def test_two_languages_of_an_encoder_in_the_package_need_no_text(name, tmp_path):
    whole = Encoder.load(name)
    settings = {"languages": ("en", "fr"), "dtype": whole.bundle.dtype}
    report = export(ExportSettings(Path(name), tmp_path / "small", **settings))
    small = Encoder.load(report.folder)
    assert report.after < 0.8 * report.before
    assert load_bundle(report.folder).languages == ("en", "fr")
    sides = list(zip(*everyday.text_pairs(everyday.read_sentences(), "en", "fr"), strict=True))
    before, after = (
        100 * precision_by_text(*(one.encode(list(side)) for side in sides), sides).mean
        for one in (whole, small)
    )
    assert after > before - 1
