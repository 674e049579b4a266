import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightxling.base.errors import UserError
from lightxling.base.lines import Problems, sound_lines
from lightxling.config.schema import Config, CorpusConfig, TokenizerConfig
from lightxling.corpus import readers
from lightxling.corpus.prepare import prepare
from lightxling.corpus.sources import Source
from lightxling.corpus.store import Store
from lightxling.evaluate.tasks.parallel import parallel, read_pairs

FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def rows_of(spec):
    """Returns the rows of a source and what was wrong with the rest."""
    problems = Problems()
    return list(readers.read_source(Source.parse(spec), problems)), problems


needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads its memory in /proc")

GROWTH = """
import re, sys
from lightxling.base.errors import UserError
from lightxling.base.lines import Problems
from lightxling.corpus import readers
from lightxling.corpus.sources import Source
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
for path in sys.argv[1:]:
    before = peak()
    try:
        for row in readers.read_source(Source.parse("en-fr=" + path), Problems()):
            pass
    except UserError as error:
        pass
    print(peak() - before)
"""


def memory_growth(tmp_path, **texts):
    """Returns how many bytes a process grows by reading each text, after a small one."""
    paths = [tmp_path / "small.tsv.gz", tmp_path / "small.tmx.gz"]
    for path, text in zip(paths, ["Yes\tOui\n", tmx(YES)], strict=True):
        path.write_bytes(gzip.compress(text.encode()))
    for name, text in texts.items():
        paths.append(tmp_path / f"{name.replace('_', '.')}.gz")
        paths[-1].write_bytes(gzip.compress(text.encode(), 1))
    run = subprocess.run([sys.executable, "-c", GROWTH, *paths], capture_output=True, check=True)
    return dict(zip(texts, map(int, run.stdout.split()[2:]), strict=True))


# Source specifications


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("en-fr=a.tsv", Source(("en", "fr"), 1.0, "a.tsv")),
        ("en-fr@2=a=b@3.tsv", Source(("en", "fr"), 2.0, "a=b@3.tsv")),
        ("en-zh_Hans@0.5=*.tsv", Source(("en", "zh_Hans"), 0.5, "*.tsv")),
        ("en-fr-ast=a.tsv", Source(("en", "fr", "ast"), 1.0, "a.tsv")),
        ("en-fr=a.tsv#3,4", Source(("en", "fr"), 1.0, "a.tsv", columns=("3", "4"))),
        ("en-fr=a.tsv#en,fr text", Source(("en", "fr"), 1.0, "a.tsv", columns=("en", "fr text"))),
        ("en-fr=a#b", Source(("en", "fr"), 1.0, "a#b")),  # a Moses stem
    ],
)
def test_parse_and_back(spec, expected):
    assert Source.parse(spec) == expected
    assert str(expected) == spec


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("corpus.tsv", "names no file"),
        ("en-fr=", "names no file"),
        ("en=a.tsv", "'en' is not a language pair"),
        ("=a.tsv", "'' is not a language pair"),
        ("EN-fr=a.tsv", "'EN-fr' is not a language pair"),
        ("english-french=a.tsv", "is not a language pair"),
        ("en-fr@=a.tsv", "weight '' is not a positive number"),
        ("en-fr@0=a.tsv", "weight '0'"),
        ("en-fr@-1=a.tsv", "weight '-1'"),
        ("en-fr@nan=a.tsv", "weight 'nan'"),
        ("en-fr@inf=a.tsv", "weight 'inf'"),
        ("en-fr=a.tsv#3", "one column for each language"),
        ("en-fr=a.tsv#1,2,3", "one column for each language"),
        ("en-fr=a.tsv#0,1", "counted from 1"),
    ],
)
def test_a_bad_source_is_quoted_with_the_rule(spec, message):
    with pytest.raises(UserError, match=r"source '.*") as error:
        Source.parse(spec)
    assert message in str(error.value)


# TSV


def test_tsv(tmp_path):
    (tmp_path / "a.tsv").write_bytes("\ufeffYes\tOui\r\nNo\tNon\textra\n".encode())
    assert rows_of(f"en-fr={tmp_path}/a.tsv")[0] == [("Yes", "Oui"), ("No", "Non")]


def test_tsv_may_have_three_languages(tmp_path):
    (tmp_path / "a.tsv").write_text("Yes\tOui\tJa\nNo\tNon\n")
    rows, problems = rows_of(f"en-fr-de={tmp_path}/a.tsv")
    assert rows == [("Yes", "Oui", "Ja")]
    assert problems.places == {"2 of 3 columns": [f"{tmp_path}/a.tsv:2"]}


def test_globs_read_gzip_and_plain_files_in_order(tmp_path):
    (tmp_path / "b.en-fr.tsv").write_text("two\tdeux\n")
    (tmp_path / "a.en-fr.tsv.gz").write_bytes(gzip.compress(b"one\tun\n"))
    (tmp_path / "c.en-de.tsv").write_text("three\tdrei\n")
    assert rows_of(f"en-fr={tmp_path}/*.en-fr.tsv*")[0] == [("one", "un"), ("two", "deux")]


def test_a_name_with_brackets_is_a_name(tmp_path):
    (tmp_path / "a[1].tsv").write_text("Yes\tOui\n")
    assert rows_of(f"en-fr={tmp_path}/a[1].tsv")[0] == [("Yes", "Oui")]


def test_what_is_no_row_is_counted_and_the_first_places_are_kept(tmp_path):
    path = tmp_path / "a.tsv"
    long = b"x" * (3 << 20) + b"\ty\n"
    bad = [b"alone\n", b"\xff\tOui\n", b"\n", long, b"Y\0\tO\0\n"]
    path.write_bytes(b"".join([*bad, b"Yes\tOui\n", *([b"alone\n"] * 6)]))
    rows, problems = rows_of(f"en-fr={path}")
    assert rows == [("Yes", "Oui")]
    assert problems.counts == {
        "1 of 2 columns": 7,
        "invalid UTF-8": 1,
        "blank line": 1,
        "line longer than 1 MiB": 1,
        "NUL byte (UTF-16?)": 1,
    }
    assert problems.places["1 of 2 columns"] == [f"{path}:{n}" for n in (1, 7, 8, 9, 10)]
    assert problems.places["invalid UTF-8"] == [f"{path}:2"]
    assert problems.places["line longer than 1 MiB"] == [f"{path}:4"]


def test_missing_files_are_named(tmp_path):
    for path in ("nowhere.tsv", "*.tsv"):
        with pytest.raises(UserError, match="there is no file") as error:
            rows_of(f"en-fr={tmp_path}/{path}")
        assert path in str(error.value)


@pytest.mark.parametrize("spoil", ["header", "cut", "cut tail", "altered"])
def test_a_damaged_gzip_file_is_named(tmp_path, spoil):
    data = gzip.compress("".join(f"the {i}\tle {i * i}\n" for i in range(1000)).encode())
    altered = data[:100] + bytes(20) + data[120:]
    spoilt = {"header": data[:3], "cut": data[:300], "cut tail": data[:-4], "altered": altered}
    (tmp_path / "a.tsv.gz").write_bytes(spoilt[spoil])
    with pytest.raises(UserError, match=r"a.tsv.gz is a damaged gzip file"):
        rows_of(f"en-fr={tmp_path}/a.tsv.gz")


@needs_proc
def test_a_gzip_bomb_of_one_line_stays_small(tmp_path):
    growth = memory_growth(tmp_path, nul_tsv="\0" * 50_000_000, x_tsv="x" * 50_000_000)
    assert max(growth.values()) < 8 << 20, growth


# Moses


@pytest.mark.parametrize("path", ["corpus", "corpus.en", "corpus.fr", "corpus.*", "cor*.en"])
@pytest.mark.parametrize("packed", [(), ("en",), ("en", "fr")])
def test_moses(tmp_path, path, packed):
    for code, text in {"en": "Yes\nNo\n", "fr": "Oui\nNon\n"}.items():
        if code in packed:
            (tmp_path / f"corpus.{code}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (tmp_path / f"corpus.{code}").write_text(text)
    if packed and path in ("corpus.en", "corpus.fr", "cor*.en"):
        path += ".gz" if path[-2:] in packed else ""
    rows, _ = rows_of(f"en-fr={tmp_path}/{path}")
    assert rows == [("Yes", "Oui"), ("No", "Non")]


def test_moses_skips_a_bad_line_on_both_sides(tmp_path):
    (tmp_path / "corpus.en").write_bytes(b"one\n\xfftwo\nthree\n")
    (tmp_path / "corpus.fr").write_bytes(b"un\ndeux\ntrois\n")
    rows, problems = rows_of(f"en-fr={tmp_path}/corpus")
    assert rows == [("one", "un"), ("three", "trois")]
    assert problems.places == {"invalid UTF-8": [f"{tmp_path}/corpus.en:2"]}


def test_moses_files_of_different_lengths_are_refused(tmp_path):
    (tmp_path / "corpus.en").write_text("one\ntwo\n")
    (tmp_path / "corpus.fr").write_text("un\ndeux\ntrois\n")
    with pytest.raises(UserError, match=r"corpus.en ends after line 2, before .*corpus.fr"):
        rows_of(f"en-fr={tmp_path}/corpus")


def test_moses_names_the_missing_side(tmp_path):
    (tmp_path / "corpus.en").write_text("one\n")
    with pytest.raises(UserError, match=r"corpus.fr is missing"):
        rows_of(f"en-fr={tmp_path}/corpus")


# TMX


def tmx(*units, head='<?xml version="1.0" encoding="UTF-8"?>'):
    body = "\n".join(f"<tu>{unit}</tu>" for unit in units)
    return f'{head}\n<tmx version="1.4"><header/><body>\n{body}\n</body></tmx>'


def tuv(code, text, attribute="xml:lang"):
    return f'<tuv {attribute}="{code}"><seg>{text}</seg></tuv>'


YES = tuv("en", "Yes") + tuv("fr", "Oui")


@pytest.mark.parametrize(
    ("unit", "row"),
    [
        (YES, ("Yes", "Oui")),
        (tuv("FR-ca", "Oui", "lang") + tuv("EN_us", "Yes"), ("Yes", "Oui")),
        (tuv("en", "A &amp; &#66;") + tuv("fr", "<![CDATA[<A>]]>"), ("A & B", "<A>")),
        (
            tuv("en", 'Go <bpt i="1">&lt;b&gt;</bpt><hi>on</hi>!') + tuv("fr", "Va"),
            ("Go on!", "Va"),
        ),
        (tuv("en", "a<ph>x<sub>y</sub>z</ph>b") + tuv("fr", "c"), ("a b", "c")),
        (tuv("en", "first") + tuv("en", "second") + tuv("fr", "un"), ("first", "un")),
        ('<note>N</note><prop type="x">P</prop>' + YES, ("Yes", "Oui")),
        (tuv("en", "") + tuv("fr", "Oui"), ("", "Oui")),  # cleaning will count it
    ],
)
def test_tmx_unit(tmp_path, unit, row):
    (tmp_path / "a.tmx").write_text(tmx(unit))
    assert rows_of(f"en-fr={tmp_path}/a.tmx")[0] == [row]


def test_tmx_without_one_of_the_languages_is_counted(tmp_path):
    (tmp_path / "a.tmx").write_text(tmx(YES, tuv("en", "No") + tuv("de", "Nein"), YES))
    rows, problems = rows_of(f"en-fr={tmp_path}/a.tmx")
    assert rows == [("Yes", "Oui")] * 2
    assert problems.places == {"unit without all languages": [f"{tmp_path}/a.tmx:4"]}


def test_tmx_with_units_inside_segments_is_no_crash(tmp_path):
    inner = f'<tuv xml:lang="en"><seg>a{tuv("de", "b")}c</seg></tuv>' + tuv("fr", "Oui")
    (tmp_path / "a.tmx").write_text(tmx(inner, YES))
    assert rows_of(f"en-fr={tmp_path}/a.tmx")[0] == [("Yes", "Oui")]


def test_tmx_a_region_is_not_the_whole_language(tmp_path):
    (tmp_path / "a.tmx").write_text(tmx(tuv("en", "Yes") + tuv("pt-PT", "Sim")))
    assert rows_of(f"en-pt_BR={tmp_path}/a.tmx")[0] == []
    (tmp_path / "b.tmx").write_text(tmx(tuv("en", "Yes") + tuv("pt-PT", "S") + tuv("pt-BR", "Sim")))
    assert rows_of(f"en-pt_BR={tmp_path}/b.tmx")[0] == [("Yes", "Sim")]


def test_tmx_packed_and_in_utf16_and_with_its_dtd(tmp_path):
    (tmp_path / "a.tmx.gz").write_bytes(gzip.compress(tmx(YES).encode()))
    head = '<?xml version="1.0" encoding="UTF-16"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">'
    (tmp_path / "b.tmx").write_bytes(
        tmx(tuv("en", "猫") + tuv("fr", "É"), head=head).encode("utf-16")
    )
    assert rows_of(f"en-fr={tmp_path}/*.tmx*")[0] == [("Yes", "Oui"), ("猫", "É")]


@pytest.mark.parametrize(
    "declaration",
    [
        '<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">',
        '<!ENTITY b SYSTEM "file:///etc/hostname">',
        '<!ENTITY % p SYSTEM "file:///etc/hostname"> %p;',
        '<!NOTATION n SYSTEM "n"><!ENTITY b SYSTEM "x" NDATA n>',
    ],
)
def test_tmx_entities_are_refused(tmp_path, declaration):
    text = tmx(tuv("en", "&b;") + tuv("fr", "Oui"), head=f"<!DOCTYPE tmx [{declaration}]>")
    (tmp_path / "a.tmx").write_text(text)
    with pytest.raises(UserError, match="defines entities"):
        rows_of(f"en-fr={tmp_path}/a.tmx")


def test_tmx_names_the_line_where_xml_breaks(tmp_path):
    (tmp_path / "a.tmx").write_text(tmx(YES, YES)[:-20])
    with pytest.raises(UserError, match=r"a.tmx:\d+ is not well-formed XML"):
        rows_of(f"en-fr={tmp_path}/a.tmx")
    (tmp_path / "a.tmx").write_text(tmx(YES, head='<?xml version="1.0" encoding="klingon"?>'))
    with pytest.raises(UserError, match="XML"):
        rows_of(f"en-fr={tmp_path}/a.tmx")


@needs_proc
def test_a_tmx_of_any_shape_stays_small(tmp_path):
    growth = memory_growth(
        tmp_path,
        segments_tmx=tmx(YES * 150_000),  # in one unit
        units_tmx=tmx(*[YES] * 150_000),
        text_tmx=tmx(tuv("en", "x" * 30_000_000) + tuv("fr", "y")),
        inline_tmx=tmx(tuv("en", "x<hi>y</hi>" * 1_000_000)),
        depth_tmx="<tmx>" + "<a>" * 10_000_000,
        comment_tmx="<tmx><!-- " + "x" * 30_000_000 + "--></tmx>",
        attribute_tmx='<tmx a="' + "x" * 30_000_000 + '"></tmx>',
    )
    assert max(growth.values()) < 8 << 20, growth


# Other formats


def test_a_new_format_is_one_entry(tmp_path, monkeypatch):
    def read_bars(path, languages, problems):
        for line in sound_lines(path, problems):
            yield tuple(line.split("|"))

    monkeypatch.setitem(readers.READERS, ".bars", read_bars)
    path = tmp_path / "talks.en-fr.bars.gz"
    path.write_bytes(gzip.compress(b"Yes|Oui\n"))
    assert rows_of(f"en-fr={path}")[0] == [("Yes", "Oui")]
    for data in (str(tmp_path), f"en-fr={path}"):  # and benchmarks find it
        ((dataset, source),) = parallel([data])
        assert (dataset, source.languages) == ("talks", ("en", "fr"))
        assert read_pairs(source) == (["Yes"], ["Oui"])


# Anything at all

PIECES = st.sampled_from(
    [
        *(
            b"<tmx>",
            b"<body>",
            b"<tu>",
            b"</tu>",
            b'<tuv xml:lang="en">',
            b'<tuv xml:lang="fr">',
            b"<tuv>",
        ),
        *(b"</tuv>", b"<seg>", b"</seg>", b"<ph>", b"</ph>", b"<hi>", b"</hi>", b"</body>"),
        *(b"</tmx>", b"&amp;", b"&x;", b"<!DOCTYPE tmx [", b"]>", b"<!--", b"-->", b"<![CDATA["),
        *(b"]]>", b"\t", b"\n", b"\r", b"\0", b"\x1f\x8b", b"\xff\xfe", b"\xef\xbb\xbf"),
        *(b"text", "é".encode(), b"\xe9"),
    ]
)
BYTES = st.binary(max_size=500) | st.lists(PIECES, max_size=40).map(b"".join)


@FUZZ
@given(BYTES, st.sampled_from(["a.tsv", "a.tmx", "a.en"]), st.booleans())
def test_any_bytes_give_rows_or_a_message(tmp_path, data, name, packed):
    (tmp_path / "a.fr").write_bytes(b"un\ndeux\n")
    (tmp_path / name).write_bytes(gzip.compress(data) if packed else data)
    try:
        rows, _ = rows_of(f"en-fr={tmp_path / name}")
    except UserError as error:
        rows, message = [], str(error)
    else:
        message = ""
    assert all(len(row) == 2 and isinstance(side, str) for row in rows for side in row)
    assert not message or str(tmp_path) in message  # it names the file


@FUZZ
@given(st.lists(PIECES, max_size=30).map(b"".join))
def test_any_nesting_inside_a_tmx_gives_whole_rows(tmp_path, inside):
    (tmp_path / "a.tmx").write_bytes(b"<tmx><body><tu>" + inside + b"</tu></body></tmx>")
    try:
        rows, _ = rows_of(f"en-fr={tmp_path}/a.tmx")
    except UserError:
        return
    assert all(len(row) == 2 for row in rows)


@FUZZ
@given(st.text(max_size=40))
def test_any_source_gives_a_source_or_a_message(text):
    try:
        source = Source.parse(text)
    except UserError:
        return
    assert Source.parse(str(source)).languages == source.languages


# tensorflow-datasets

tfds = pytest.importorskip("tensorflow_datasets")

TALKS = [
    {"en": "Yes", "fr": "Oui", "de": ["Ja", "Jawohl"]},
    {"en": "No", "fr": "Non"},
    {"fr": "Si", "de": "Doch"},
]


class LittlePairs(tfds.core.GeneratorBasedBuilder):
    """A dataset with a Translation, prepared on disk by the tests."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.Translation(languages=("en", "fr"))
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(50), "test": self._generate_examples(3)}

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"en": f"sentence é {i}", "fr": f"phrase é {i}"}


class LittleTalks(tfds.core.GeneratorBasedBuilder):
    """A dataset whose examples hold different languages, beside another text."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        translations = tfds.features.TranslationVariableLanguages(languages=["de", "en", "fr"])
        features = {"translations": translations, "talk": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i, talk in enumerate(TALKS):
            yield i, {"translations": talk, "talk": "x"}


class LittleFields(tfds.core.GeneratorBasedBuilder):
    """A dataset with named text fields."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        names = ("source_text", "source_url", "target_text")
        features = {name: tfds.features.Text() for name in names} | {
            "score": tfds.features.Scalar(np.int64)
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"source_text": "Yes", "source_url": "u", "target_text": "Oui", "score": 1}


class LittleArchive(LittlePairs):
    """A dataset that has to unpack a file first."""

    archive = None

    def _split_generators(self, dl_manager):
        dl_manager.extract(self.archive)
        return super()._split_generators(dl_manager)


@pytest.fixture
def tfds_home(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "tfds"))
    before = sys.modules.get("tensorflow")
    yield tmp_path / "tfds"
    assert before or not sys.modules.get("tensorflow")


def test_tfds_translation_is_prepared_and_read(tfds_home):
    rows, problems = rows_of("fr-en=tfds:little_pairs")
    assert sorted(rows) == sorted((f"phrase é {i}", f"sentence é {i}") for i in range(50))
    assert not problems.counts
    assert len(rows_of("en-fr=tfds:little_pairs:train[:20%]")[0]) == 10
    assert len(rows_of("en-fr=tfds:little_pairs:1.0.0:test")[0]) == 3
    names = [path.name for path in readers.files(Source.parse("en-fr=tfds:little_pairs"))]
    assert any(name.startswith("little_pairs-train.array_record") for name in names)


def test_tfds_goes_into_a_store(tfds_home, tmp_path):
    config = Config(
        corpus=CorpusConfig(
            sources=("en-fr=tfds:little_pairs",), store=str(tmp_path), dev_share=0.2
        ),
        tokenizer=TokenizerConfig(vocab_size=40),
    )
    path = prepare(config, progress=lambda line: None)
    store = Store.open(path)
    assert store.train.rows + store.dev.rows == 50
    names = [Path(file["path"]).name for file in store.manifest["sources"][0]["files"]]
    assert "little_pairs-train.array_record-00000-of-00001" in names
    assert prepare(config, progress=lambda line: None) == path


def test_tfds_variable_languages(tfds_home):
    rows, problems = rows_of("en-de=tfds:little_talks")
    assert rows == [("Yes", "Ja")]
    assert problems.counts == {"example without all languages": 2}
    assert sorted(rows_of("fr-de=tfds:little_talks")[0]) == [("Oui", "Ja"), ("Si", "Doch")]


def test_tfds_named_fields(tfds_home):
    assert rows_of("en-fr=tfds:little_fields#source_text,target_text")[0] == [("Yes", "Oui")]
    with pytest.raises(UserError, match="the text fields are source_text, source_url, target_text"):
        rows_of("en-fr=tfds:little_fields")


def test_tfds_mock_of_para_crawl(tfds_home):
    with tfds.testing.mock_data(num_examples=7):
        rows, _ = rows_of("en-fr=tfds:para_crawl/enfr")
    assert len(rows) == 7
    assert all(isinstance(side, str) and side for row in rows for side in row)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("little_pears", "Dataset little_pears not found"),
        ("para_crawl/enxx", "BuilderConfig enxx not found"),
        ("wmt14_translate/xx-en", "BuilderConfig xx-en not found"),
        ("little_pairs:valid", "Unknown split 'valid'"),
        ("", "write tfds:NAME/CONFIG"),
    ],
)
def test_tfds_errors_are_one_message(tfds_home, path, message):
    with pytest.raises(UserError, match=f"source en-fr=tfds:{path}.*{message}"):
        rows_of(f"en-fr=tfds:{path}")


def test_tfds_without_the_language_names_the_fields(tfds_home):
    with pytest.raises(UserError, match="the text fields are en, fr"):
        rows_of("en-de=tfds:little_pairs")


def test_tfds_says_when_it_needs_tensorflow(tfds_home, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # importing it fails, installed or not
    archive = tmp_path / "corpus.txt.gz"
    archive.write_bytes(gzip.compress(b"text"))
    monkeypatch.setattr(LittleArchive, "archive", str(archive))
    with pytest.raises(
        UserError, match=r"needs TensorFlow to unpack little_archive.*\n.*python -c"
    ):
        rows_of("en-fr=tfds:little_archive")


class LittleInference(tfds.core.GeneratorBasedBuilder):
    """A dataset in the form of SNLI, one example without an agreed label."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        names = ["entailment", "neutral", "contradiction"]
        features = {
            "hypothesis": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=names),
            "premise": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i, label in enumerate(["neutral", "contradiction", -1]):
            yield i, {"premise": f"première {i}", "hypothesis": f"second {i}", "label": label}


class LittleScores(tfds.core.GeneratorBasedBuilder):
    """A dataset in the form of the STS benchmark."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "sentence1": tfds.features.Text(),
            "sentence2": tfds.features.Text(),
            "label": tfds.features.Scalar(np.float32),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"sentence1": "a", "sentence2": "b", "label": 2.5}


def labelled_rows(spec, rows):
    problems = Problems()
    return list(readers.read_source(Source.parse(spec, rows), problems, rows)), problems


def test_tfds_inference_has_premise_hypothesis_and_label(tfds_home):
    rows, problems = labelled_rows("en-en=tfds:little_inference", "labels")
    assert sorted(rows) == [("première 0", "second 0", "1"), ("première 1", "second 1", "2")]
    assert problems.counts == {"no agreed label": 1}
    turned, _ = labelled_rows("en-en=tfds:little_inference:train#hypothesis,premise", "labels")
    assert ("second 0", "première 0", "1") in turned


def test_tfds_scores(tfds_home):
    assert labelled_rows("en-en=tfds:little_scores", "scores")[0] == [("a", "b", "2.5")]


def test_tfds_without_labels_is_refused(tfds_home):
    with pytest.raises(UserError, match="no field named label"):
        labelled_rows("en-en=tfds:little_fields", "labels")


def test_tfds_mock_of_snli(tfds_home):
    """The features of the real SNLI and MultiNLI, with made-up content."""
    for name in ("snli", "multi_nli"):
        with tfds.testing.mock_data(num_examples=9):
            rows, problems = labelled_rows(f"en-en=tfds:{name}", "labels")
        assert len(rows) + problems.counts["no agreed label"] == 9
        assert all(len(row) == 3 and row[2] in ("0", "1", "2") for row in rows)
