"""Every setting of the corpus and of the tokenizer changes what is made, or is refused."""

import dataclasses
import functools
import hashlib
import random

import pytest
import sentencepiece

from lightxling.base.errors import UserError
from lightxling.cli_options import parse_recipe
from lightxling.config.files import differences
from lightxling.config.schema import Config, CorpusConfig, TokenizerConfig
from lightxling.config.settings import change
from lightxling.corpus.existing import existing_tokenizer
from lightxling.corpus.prepare import prepare
from lightxling.corpus.store import Store
from lightxling.corpus.tokenizer import load_tokenizer, train_tokenizer

CONSONANTS, VOWELS = "bcdfghjklmnprstvwxzẞ", "aeiou"
LONG = "w" * 150


def rows():
    """Pairs of which each setting of the corpus keeps other ones."""
    draw = random.Random(0)
    words = [
        "".join(draw.choice(CONSONANTS) + draw.choice(VOWELS) for _ in "123") for _ in range(200)
    ]
    plain = [" ".join(draw.choices(words, k=4)) for _ in range(300)]
    pairs = [(f"{text} X.", f"le {text[::-1]}.") for text in plain]
    pairs += [(f"R&amp;D {LONG}", f"R et D {LONG}")]  # unescape
    pairs += [(f"{LONG} {LONG} {LONG}", f"{LONG} un {LONG} deux {LONG}")]  # max_chars
    pairs += [(LONG, f"un {LONG[:30]}")]  # max_ratio
    pairs += [("the cat sees a long house and the river flows by it all day", "猫看到一座房子河")]
    pairs += [("猫" * 9, f"the cat {LONG[:90]}")]  # length_unit
    return pairs + pairs[:3]  # deduplicate


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("settings")
    text = "".join("\t".join(row) + "\n" for row in rows())
    (folder / "a.tsv").write_text(text, "utf-8")
    (folder / "b.tsv").write_text("".join("\t".join(row) + "\n" for row in rows()[:200]), "utf-8")
    corpus = CorpusConfig(
        sources=(f"en-fr={folder}/a.tsv", f"en-de={folder}/b.tsv"),
        store=str(folder / "stores"),
        dev_share=0.1,
        dev_limit=50,
    )
    tokenizer = TokenizerConfig(vocab_size=50, character_coverage=0.99)
    return Config(corpus=corpus, tokenizer=tokenizer), folder


@functools.cache
def made(config):
    """What a store holds, and where it lies."""
    path = prepare(config, progress=lambda line: None)
    store = Store.open(path)
    digest = hashlib.sha256(store.tokenizer_path.read_bytes())
    for split in (store.train, store.dev):
        digest.update(split.tokens.tobytes() + split.offsets.tobytes() + b"/")
    return digest.hexdigest(), path.parent


def other(name, folder):
    """Another value of a setting, and what else it takes to count."""
    return {
        "corpus.sources": {"corpus__sources": (f"en-fr={folder}/a.tsv",)},
        "corpus.dev": {"corpus__dev": (f"en-fr={folder}/b.tsv",)},
        "corpus.dev_share": {"corpus__dev_share": 0.02},
        "corpus.dev_limit": {"corpus__dev_limit": 20},
        "corpus.unescape": {"corpus__unescape": False},
        "corpus.max_chars": {"corpus__max_chars": 600},
        "corpus.max_ratio": {"corpus__max_ratio": 8.0},
        "corpus.length_unit": {"corpus__length_unit": "characters"},
        "corpus.deduplicate": {"corpus__deduplicate": False},
        "corpus.store": {"corpus__store": f"{folder}/elsewhere"},
        "tokenizer.model": {"tokenizer__model": "unigram"},
        "tokenizer.vocab_size": {"tokenizer__vocab_size": 45},
        "tokenizer.hash_buckets": {"tokenizer__hash_buckets": 50, "tokenizer__model": "words"},
        "tokenizer.lowercase": {"tokenizer__lowercase": False},
        "tokenizer.character_coverage": {"tokenizer__character_coverage": 1.0},
        "tokenizer.byte_fallback": {"tokenizer__byte_fallback": True, "tokenizer__vocab_size": 310},
        "tokenizer.sample": {"tokenizer__sample": 200},
        "tokenizer.sampling": {"tokenizer__sampling": 0.0, "tokenizer__sample": 200},
        "tokenizer.file": {"tokenizer__file": f"{folder}/other.model"},
    }[name]


NAMES = [
    f"{place}.{field.name}"
    for place, kind in (("corpus", CorpusConfig), ("tokenizer", TokenizerConfig))
    for field in dataclasses.fields(kind)
    if field.name != "identify"  # only says something: test_identify
]


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_changes_what_is_made(name, base):
    config, folder = base
    sentences = [side for row in rows()[100:300] for side in row]
    if name == "tokenizer.file":
        train_tokenizer(sentences, config.tokenizer, folder / "other.model")
    if name.startswith("corpus."):  # words are counted in no time
        config = change(config, tokenizer__model="words", tokenizer__hash_buckets=50)
    changes = other(name, folder)
    key = name.replace(".", "__")
    without = change(config, **{k: value for k, value in changes.items() if k != key})
    assert made(without) != made(change(config, **changes))


def test_a_run_begun_before_with_a_file_goes_on_without_settings_that_did_nothing():
    begun = Config(tokenizer=TokenizerConfig(file="x", lowercase=True, vocab_size=7))
    assert not differences(begun, Config(tokenizer=TokenizerConfig(file="x", lowercase=False)))
    assert differences(change(begun, tokenizer__file=""), Config())


FILED = [f.name for f in dataclasses.fields(TokenizerConfig) if f.name not in ("file", "lowercase")]


@pytest.mark.parametrize(
    ("name", "place"),
    [*((name, "tokenizer.file") for name in FILED), ("vocab_size", "train.init-from")],
)
def test_beside_a_tokenizer_that_exists_the_others_are_refused(name, place, base):
    folder = base[1]
    value = {"model": "words", "byte_fallback": True, "character_coverage": 0.99}.get(name, 7)
    typed = [f"--tokenizer.{name.replace('_', '-')}", str(value), f"--{place}", str(folder / "x")]
    with pytest.raises(UserError, match=rf"tokenizer\.{name}={value}.* is for .* brings its own"):
        parse_recipe(prepare, ["light", *typed])
    parse_recipe(prepare, ["light", f"--{place}", str(folder / "x")])  # the recipe's


def foreign(folder, rule):
    """A sentencepiece model of another program."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(side.lower() for row in rows() for side in row),
        model_prefix=str(folder / rule),
        vocab_size=60,
        normalization_rule_name=rule,
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        pad_piece="<pad>",
        control_symbols=["<MASK>"],
        minloglevel=2,
    )
    return folder / f"{rule}.model"


@pytest.mark.parametrize("rule", ["identity", "nmt_nfkc"])
def test_a_file_that_keeps_case_folds_it_where_that_is_asked(rule, tmp_path):
    file = foreign(tmp_path, rule)
    kept = existing_tokenizer(TokenizerConfig(file=str(file), lowercase=False))[0]
    assert kept == file.read_bytes()
    content, said = existing_tokenizer(TokenizerConfig(file=str(file)))
    assert "keeps case; here it folds it" in said
    before = sentencepiece.SentencePieceProcessor(model_proto=kept)
    after = sentencepiece.SentencePieceProcessor(model_proto=content)
    for text in (
        "The CAT sees a House",
        "ΣΊΣΥΦΟΣ İYİ ẞoat Straße ǅ",
        "ﬁne Ｘ" * (rule != "identity"),
    ):
        folded = text.casefold().replace("i\u0307", "i")
        assert after.normalize(text) == before.normalize(folded), text
        assert after.encode(text) == before.encode(folded)
    assert [after.id_to_piece(i) for i in range(60)] == [before.id_to_piece(i) for i in range(60)]


def test_a_file_that_folds_case_cannot_keep_it(tmp_path):
    file = foreign(tmp_path, "nmt_nfkc_cf")
    with pytest.raises(UserError, match=r"folds case, and tokenizer\.lowercase=False would keep"):
        existing_tokenizer(TokenizerConfig(file=str(file), lowercase=False))


def test_a_file_made_elsewhere_keeps_its_rules_and_says_so(tmp_path):
    file = foreign(tmp_path, "nmt_nfkc_cf")
    content, said = existing_tokenizer(TokenizerConfig(file=str(file)))
    assert content == file.read_bytes()
    assert said == (
        f"{file} normalises text by its own rules (nmt_nfkc_cf), not by those of new tokenizers"
    )
    train_tokenizer(["the cat sees a house"] * 9, TokenizerConfig(vocab_size=24), tmp_path / "new")
    assert existing_tokenizer(TokenizerConfig(file=str(tmp_path / "new")))[1] == ""


def test_words_of_a_file_are_folded_too(tmp_path):
    settings = TokenizerConfig(model="words", vocab_size=50, hash_buckets=9, lowercase=False)
    train_tokenizer(["the cat The"], settings, tmp_path / "words")
    content, said = existing_tokenizer(TokenizerConfig(file=str(tmp_path / "words")))
    (tmp_path / "folded").write_bytes(content)
    assert "keeps case" in said
    model = load_tokenizer(tmp_path / "folded")
    assert model.encode(["THE Cat"], 9)[0].tolist() == model.encode(["the cat"], 9)[0].tolist()
