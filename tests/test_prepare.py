import dataclasses
import fcntl
import gzip
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from lightxling.base.errors import UserError
from lightxling.config.schema import Config, CorpusConfig, TokenizerConfig
from lightxling.corpus.cleaning import content_hash
from lightxling.corpus.pieces import UNK
from lightxling.corpus.prepare import prepare
from lightxling.corpus.store import Store
from lightxling.corpus.tokenizer import load_tokenizer

EN = ["cat", "dog", "house", "tree", "river", "child", "friend", "street", "garden", "window"]
FR = ["chat", "chien", "maison", "arbre", "fleuve", "enfant", "ami", "rue", "jardin", "fenêtre"]
DE = ["Katze", "Hund", "Haus", "Baum", "Fluss", "Kind", "Freund", "Straße", "Garten", "Fenster"]


def pairs(count, words=FR, seed=0):
    """Sentences with their word-by-word translations, all different."""
    order = list(itertools.permutations(range(10), 4))
    random.Random(seed).shuffle(order)
    return [
        ("The " + " ".join(EN[i] for i in row) + ".", "Le " + " ".join(words[i] for i in row) + ".")
        for row in order[:count]
    ]


def write_tsv(path, rows):
    data = "".join("\t".join(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def configured(folder, *sources, vocab_size=120, **changes):
    corpus = CorpusConfig(sources=sources, store=str(folder / "stores"), dev_share=0.1)
    return Config(
        corpus=dataclasses.replace(corpus, **changes),
        tokenizer=TokenizerConfig(vocab_size=vocab_size, character_coverage=1.0),
    )


def prepared(folder, *sources, **changes):
    """Returns the opened store and what was said while it was made."""
    said = []
    path = prepare(configured(folder, *sources, **changes), progress=said.append)
    return Store.open(path), "\n".join(said)


def texts_of(split, tokenizer_path):
    """Returns the sentences of a split, decoded from their tokens."""
    model = load_tokenizer(tokenizer_path)
    ends = split.offsets.tolist()
    flat = [model.decode(split.tokens[a:b]) for a, b in itertools.pairwise(ends)]
    return list(zip(*[iter(flat)] * split.sides, strict=True))


def lower(rows):
    return {tuple(side.casefold() for side in row) for row in rows}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A store of 1,000 pairs, with the pairs and what was said."""
    folder = tmp_path_factory.mktemp("fresh")
    write_tsv(folder / "a.en-fr.tsv.gz", pairs(1000))
    return (*prepared(folder, f"en-fr={folder}/*.tsv.gz"), pairs(1000))


def test_every_pair_is_in_one_split_and_reads_as_it_was_written(fresh):
    store, _, rows = fresh
    train = lower(texts_of(store.train, store.tokenizer_path))
    dev = lower(texts_of(store.dev, store.tokenizer_path))
    assert not train & dev
    assert train | dev == lower(rows)
    assert lower(store.dev.texts()) == dev
    assert set(store.dev.texts()) <= set(rows)  # the text keeps its case
    assert 60 < store.dev.rows < 140  # a tenth by hash


def test_manifest_tells_what_is_inside(fresh):
    store, said, _ = fresh
    manifest = store.manifest
    assert store.languages == ["en", "fr"]
    assert store.groups == [
        {
            "source": manifest["config"]["corpus"]["sources"][0],
            "languages": ["en", "fr"],
            "weight": 1.0,
            "rows": store.train.rows,
            "dev_rows": store.dev.rows,
        }
    ]
    assert manifest["counts"]["read"] == 1000
    assert manifest["counts"]["kept"] == store.train.rows
    assert manifest["counts"]["dropped"] == {"held out for dev": store.dev.rows}
    model = load_tokenizer(store.tokenizer_path)
    assert manifest["tokenizer"] == {"sha256": model.sha256, "vocab_size": 120, "lowercase": True}
    lengths = np.concatenate([store.train.lengths, store.dev.lengths])
    for side, language in enumerate(store.languages):
        assert manifest["tokens"][language] == {
            "sentences": 1000,
            "tokens": lengths[:, side].sum(),
            "unknown": 0,
        }
    (file,) = manifest["sources"][0]["files"]
    assert file["bytes"] == Path(file["path"]).stat().st_size
    assert "1,000  pairs read" in said
    assert f"{store.train.rows}  kept for training, {store.dev.rows} for dev" in said


def test_a_second_call_finds_the_store(fresh):
    store, _, _ = fresh
    stamp = (store.path / "manifest.json").stat().st_mtime_ns
    config = json.loads(json.dumps(store.manifest["config"]))
    said = []
    corpus = {k: tuple(v) if isinstance(v, list) else v for k, v in config["corpus"].items()}
    again = Config(corpus=CorpusConfig(**corpus), tokenizer=TokenizerConfig(**config["tokenizer"]))
    assert prepare(again, progress=said.append) == store.path
    assert (store.path / "manifest.json").stat().st_mtime_ns == stamp
    assert said == [f"using the store {store.path}"]


def test_the_same_text_gives_the_same_bytes(fresh, tmp_path):
    store, _, rows = fresh
    write_tsv(tmp_path / "a.tsv", rows)
    other, _ = prepared(tmp_path, f"en-fr={tmp_path}/a.tsv")
    assert other.manifest["files"] == store.manifest["files"]


def test_other_text_or_settings_give_another_store(tmp_path):
    path = write_tsv(tmp_path / "a.tsv", pairs(300))
    names = {prepared(tmp_path, f"en-fr={path}")[0].path}
    names.add(prepared(tmp_path, f"en-fr={path}", max_chars=100)[0].path)
    names.add(prepared(tmp_path, f"en-fr={path}", vocab_size=110)[0].path)
    write_tsv(path, pairs(301))
    names.add(prepared(tmp_path, f"en-fr={path}")[0].path)
    assert len(names) == 4


def test_the_split_does_not_move_when_data_are_added(tmp_path):
    write_tsv(tmp_path / "a.tsv", pairs(500))
    before, _ = prepared(tmp_path, f"en-fr={tmp_path}/a.tsv")
    write_tsv(tmp_path / "b.tsv", pairs(1500)[500:])
    after, _ = prepared(tmp_path, f"en-fr={tmp_path}/*.tsv", max_chars=399)
    assert set(before.dev.texts()) < set(after.dev.texts())
    dev = {content_hash(row[0]) for row in after.dev.texts()}
    train = texts_of(after.train, after.tokenizer_path)
    assert not dev & {content_hash(row[0]) for row in train}


def test_all_translations_of_a_sentence_are_on_one_side(tmp_path):
    write_tsv(tmp_path / "1.en-fr.tsv", pairs(600))
    write_tsv(tmp_path / "2.en-fr.tsv", [(a.upper(), b + " Oui !") for a, b in pairs(600)])
    write_tsv(tmp_path / "3.en-fr.tsv", [("Yes! " + a, b) for a, b in pairs(600)])
    write_tsv(tmp_path / "1.en-de.tsv", pairs(600, DE))
    store, _ = prepared(
        tmp_path, *(f"en-{code}={tmp_path}/*.en-{code}.tsv" for code in ("fr", "de"))
    )
    train = {row[0] for row in lower(texts_of(store.train, store.tokenizer_path))}
    dev = store.dev.texts()
    assert not train & {row[0].lower() for row in dev}
    # Among the candidates of one language pair no sentence stands twice, or a tie would be a miss.
    for language in ("fr", "de"):
        chosen = [
            row
            for row, group in zip(dev, store.dev.group, strict=True)
            if language in store.groups[group]["languages"]
        ]
        assert len(chosen) > 30
        for side in range(2):
            assert len({content_hash(row[side]) for row in chosen}) == len(chosen)


def test_dev_limit_keeps_the_smallest_hashes_of_each_pair(tmp_path):
    write_tsv(tmp_path / "fr.tsv", pairs(3000))
    write_tsv(tmp_path / "de.tsv", pairs(100, DE, seed=1))
    sources = [f"en-fr={tmp_path}/fr.tsv", f"en-de={tmp_path}/de.tsv"]
    store, said = prepared(tmp_path, *sources, dev_limit=20)
    candidates = sorted(content_hash(row[0]) for row in pairs(3000))
    chosen = [
        row for row, group in zip(store.dev.texts(), store.dev.group, strict=True) if group == 0
    ]
    assert [content_hash(row[0]) for row in chosen] == candidates[:20]
    assert 0 < store.groups[1]["dev_rows"] <= 20
    assert "held out for dev" in said


def test_dev_sources_keep_their_sentences_out_of_training(tmp_path):
    rows = pairs(600)
    write_tsv(tmp_path / "train.tsv", rows)
    write_tsv(tmp_path / "dev.tsv", [(a.upper(), "Oui " + b) for a, b in rows[:50]])
    source, dev = f"en-fr={tmp_path}/train.tsv", f"en-fr={tmp_path}/dev.tsv"
    store, _ = prepared(tmp_path, source, dev=(dev,), dev_limit=30)
    assert store.train.rows == 550
    assert store.dev.rows == 30
    assert store.manifest["counts"]["dropped"] == {"first side in dev": 50}
    assert [(g["source"], g["rows"], g["dev_rows"]) for g in store.groups] == [
        (source, 550, 0),
        (dev, 0, 30),
    ]
    assert set(store.dev.group) == {1}


@pytest.mark.parametrize("has_dev", [True, False])
def test_development_pairs_are_not_learnt_the_other_way_round(tmp_path, has_dev):
    rows = pairs(600)
    write_tsv(tmp_path / "a.tsv", rows)
    write_tsv(tmp_path / "swapped.tsv", [(b, a) for a, b in rows])
    write_tsv(tmp_path / "dev.tsv", rows[:50])
    sources = [f"en-fr={tmp_path}/a.tsv", f"fr-en={tmp_path}/swapped.tsv"]
    dev = (f"en-fr={tmp_path}/dev.tsv",) if has_dev else ()
    store, _ = prepared(tmp_path, *sources, dev=dev, dev_share=0.1)
    held_out = {tuple(sorted(map(str.lower, row))) for row in store.dev.texts()}
    learnt = {tuple(sorted(row)) for row in lower(texts_of(store.train, store.tokenizer_path))}
    assert held_out
    assert learnt
    assert not held_out & learnt


def test_weights_and_groups(tmp_path):
    write_tsv(tmp_path / "fr.tsv", pairs(200))
    write_tsv(tmp_path / "de.tsv", pairs(300, DE))
    store, _ = prepared(tmp_path, f"en-fr@0.5={tmp_path}/fr.tsv", f"en-de@3={tmp_path}/de.tsv")
    assert [group["weight"] for group in store.groups] == [0.5, 3.0]
    assert np.bincount(store.train.group).tolist() == [group["rows"] for group in store.groups]
    german = store.train.group == 1
    texts = texts_of(store.train, store.tokenizer_path)
    assert lower(itertools.compress(texts, german)) <= lower(pairs(300, DE))


def test_three_languages_in_a_row(tmp_path):
    rows = [(a, b, c) for (a, b), (_, c) in zip(pairs(300), pairs(300, DE), strict=True)]
    write_tsv(tmp_path / "a.tsv", rows)
    store, _ = prepared(tmp_path, f"en-fr-de={tmp_path}/a.tsv")
    assert lower(texts_of(store.train, store.tokenizer_path)) < lower(rows)
    assert store.train.lengths.shape == (store.train.rows, 3)
    with pytest.raises(UserError, match="same number of languages"):
        prepared(tmp_path, f"en-fr-de={tmp_path}/a.tsv", f"en-fr={tmp_path}/a.tsv")


def test_drops_and_bad_lines_are_counted_and_shown(tmp_path):
    bad = [("alone",), ("", "rien"), ("Paris", "PARIS!"), ("123", "124"), ("y" * 401, "y" * 401)]
    write_tsv(tmp_path / "a.tsv", [*pairs(300), *bad, *pairs(10)])
    store, said = prepared(tmp_path, f"en-fr={tmp_path}/a.tsv")
    counts = store.manifest["counts"]
    assert counts["unreadable"] == {"1 of 2 columns": 1}
    dropped = dict(counts["dropped"])
    dropped.pop("held out for dev")
    assert dropped == {
        "duplicate": 10,
        "blank side": 1,
        "identical sides": 1,
        "no letters": 1,
        "longer than 400 characters": 1,
    }
    assert counts["read"] == counts["kept"] + sum(counts["dropped"].values()) == 314
    assert f"unreadable: 1 of 2 columns ({tmp_path}/a.tsv:301)" in said
    assert "10  duplicate" in said


def test_unknown_pieces_are_counted_by_language(tmp_path):
    write_tsv(tmp_path / "plain.tsv", pairs(300))
    plain, _ = prepared(tmp_path, f"en-fr={tmp_path}/plain.tsv")
    config = configured(tmp_path, f"en-ja={tmp_path}/cats.tsv", dev_share=0.0)
    write_tsv(tmp_path / "cats.tsv", [(f"cat {e}", f"猫 犬 {e}") for e in EN])
    model = dataclasses.replace(config.tokenizer, file=str(plain.tokenizer_path))
    path = prepare(dataclasses.replace(config, tokenizer=model), progress=lambda line: None)
    store = Store.open(path)
    assert store.manifest["tokens"]["ja"]["unknown"] == 20
    assert store.manifest["tokens"]["en"]["unknown"] == 0
    assert (store.train.tokens == UNK).sum() == 20
    assert store.manifest["tokenizer"]["sha256"] == plain.manifest["tokenizer"]["sha256"]
    # Another model of the same name makes another store.
    other, _ = prepared(tmp_path, f"en-fr={tmp_path}/plain.tsv", vocab_size=110)
    shutil.copyfile(other.tokenizer_path, plain.tokenizer_path)
    again = prepare(dataclasses.replace(config, tokenizer=model), progress=lambda line: None)
    assert Store.open(again).manifest["tokenizer"]["vocab_size"] == 110


def test_sentences_that_a_model_deletes_are_left_out(tmp_path):
    (tmp_path / "rule.tsv").write_text("732B\t\n")  # this model drops the character for cat
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(side for row in pairs(300) for side in row),
        model_prefix=str(tmp_path / "model"),
        vocab_size=48,
        normalization_rule_tsv=str(tmp_path / "rule.tsv"),
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        pad_piece="<pad>",
        control_symbols=["<MASK>"],
        minloglevel=2,
    )
    rows = [(a, b if i % 2 else "猫" * (i // 15 + 1)) for i, (a, b) in enumerate(pairs(300))]
    config = configured(tmp_path, f"en-fr={write_tsv(tmp_path / 'a.tsv', rows)}")
    file = str(tmp_path / "model.model")
    model = dataclasses.replace(config.tokenizer, file=file, lowercase=False)
    path = prepare(dataclasses.replace(config, tokenizer=model), progress=lambda line: None)
    store = Store.open(path)
    assert (store.train.lengths > 0).all()
    assert set(store.dev.texts()) <= set(rows[1::2])
    assert texts_of(store.dev, store.tokenizer_path) == store.dev.texts()
    train = set(texts_of(store.train, store.tokenizer_path))
    assert train == set(rows[1::2]) - set(store.dev.texts())
    assert store.manifest["counts"]["dropped"]["no tokens"] > 100


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no training pair is left of the 0 that were read"),
        (
            b"one\nzwei\n",
            r"(?s)no training pair .*2  unreadable: 1 of 2 columns \(.*a.tsv:1, .*a.tsv:2\)",
        ),
        (b"\xff\t\xfe\n", r"(?s)no training pair .*1  unreadable: invalid UTF-8 \(.*a.tsv:1\)"),
        (b"1\t2\n", "(?s)no training pair is left of the 1 .*1  no letters"),
    ],
)
def test_a_corpus_without_pairs_says_why(tmp_path, content, message):
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, f"en-fr={tmp_path}/a.tsv")
    assert not [p for p in (tmp_path / "stores").iterdir() if p.is_dir()]


def test_wrong_settings_say_what_to_do(tmp_path):
    path = write_tsv(tmp_path / "a.tsv", pairs(300))
    with pytest.raises(UserError, match=r"set corpus\.sources"):
        prepared(tmp_path)
    with pytest.raises(UserError, match=r"there is no file .*b\.tsv"):
        prepared(tmp_path, f"en-fr={tmp_path}/b.tsv")
    with pytest.raises(
        UserError, match=r"tokenizer\.vocab_size=9000 is more than the text supports"
    ):
        prepared(tmp_path, f"en-fr={path}", vocab_size=9000)
    config = configured(tmp_path, f"en-fr={path}")
    model = dataclasses.replace(config.tokenizer, file=str(tmp_path / "none.model"))
    with pytest.raises(UserError, match=r"none\.model does not exist"):
        prepare(dataclasses.replace(config, tokenizer=model))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        prepared(tmp_path, f"en-fr={path}", store=f"{tmp_path}/file")


@pytest.mark.parametrize("name", ["train/tokens.bin", "manifest.json"])
def test_a_damaged_store_is_made_again(tmp_path, name):
    path = write_tsv(tmp_path / "a.tsv", pairs(300))
    store, _ = prepared(tmp_path, f"en-fr={path}")
    whole = (store.path / name).read_bytes()
    (store.path / name).write_bytes(whole[:-3])
    again, said = prepared(tmp_path, f"en-fr={path}")
    assert again.path == store.path
    assert (store.path / name).read_bytes() == whole
    assert said.count(f"preparing again: {store.path / name}") == 1


def test_a_source_replaced_with_equal_size_and_times_is_noticed(tmp_path):
    source, rows = tmp_path / "a.en-fr.tsv", pairs(300)
    write_tsv(source, rows)
    config = configured(tmp_path, f"en-fr={source}")
    path = prepare(config, progress=lambda line: None)
    before, about = Store.open(path).content, source.stat()
    os.utime(source, ns=(about.st_atime_ns, about.st_mtime_ns))  # a new ctime, the same text
    said = []
    assert prepare(config, progress=said.append) == path
    assert said == [f"using the store {path}"]
    write_tsv(source, rows[::-1])
    os.utime(source, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert source.stat().st_size == about.st_size
    said = []
    assert prepare(config, progress=said.append) == path
    assert any("has other text than when it was prepared" in line for line in said)
    assert Store.open(path).content != before


def test_two_at_once_make_one_store(tmp_path):
    path = write_tsv(tmp_path / "a.tsv", pairs(2000))
    config = configured(tmp_path, f"en-fr={path}")
    said, paths = [], []
    run = lambda: paths.append(prepare(config, progress=said.append))  # noqa: E731
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 3
    assert len(set(paths)) == 1
    assert said.count(f"store {paths[0]}") == 1
    assert said.count(f"using the store {paths[0]}") == 2


CHILD = """
import json, sys
from lightxling.config.schema import Config, CorpusConfig, TokenizerConfig
from lightxling.base.errors import UserError
from lightxling.corpus.prepare import prepare
corpus, tokenizer = json.loads(sys.argv[1])
corpus = {k: tuple(v) if isinstance(v, list) else v for k, v in corpus.items()}
try:
    prepare(Config(corpus=CorpusConfig(**corpus), tokenizer=TokenizerConfig(**tokenizer)))
except UserError as error:
    sys.exit(f"error: {error}")
assert "jax" not in sys.modules and "tensorflow" not in sys.modules
"""


def child(config, **kwargs):
    settings = json.dumps([dataclasses.asdict(config.corpus), dataclasses.asdict(config.tokenizer)])
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, settings], stderr=subprocess.PIPE, **kwargs
    )


@pytest.mark.parametrize("stage", ["clean.tsv", "tokenizer.model", "store/train/tokens.bin"])
def test_kill_9_leaves_nothing_that_looks_whole(tmp_path, stage):
    rows = pairs(5000)
    many = [(f"{a} {n}", f"{b} {n}") for n in ("one", "two", "three", "four") for a, b in rows]
    path = write_tsv(tmp_path / "a.tsv", many)
    config = configured(tmp_path, f"en-fr={path}")
    process = child(config, stdout=subprocess.DEVNULL)
    stores = tmp_path / "stores"
    deadline = time.monotonic() + 300
    while not list(stores.glob(f".*.part/{stage}")) and process.poll() is None:
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    process.communicate()
    seen = [entry for entry in stores.iterdir() if not entry.name.startswith(".")]
    if process.returncode == -signal.SIGKILL:
        assert not seen
    # Another corpus prepared beside it clears the ground.
    prepared(tmp_path, f"en-fr={write_tsv(tmp_path / 'b.tsv', pairs(300))}")
    assert not list(stores.glob(".*.part"))
    assert Store.open(prepare(config, progress=lambda line: None)).train.rows > 15_000


def test_the_next_run_takes_the_place_of_a_killed_one(tmp_path):
    config = configured(tmp_path, f"en-fr={write_tsv(tmp_path / 'a.tsv', pairs(300))}")
    path = prepare(config, progress=lambda line: None)
    shutil.rmtree(path)
    (path.parent / f".{path.name}.part" / "store").mkdir(parents=True)
    assert Store.open(prepare(config, progress=lambda line: None)).train.rows > 200


def test_what_others_are_making_is_left_alone(tmp_path):
    work = tmp_path / "stores" / ".012345678901.part"
    work.mkdir(parents=True)
    source = f"en-fr={write_tsv(tmp_path / 'a.tsv', pairs(300))}"
    with open(work.with_suffix(".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        prepared(tmp_path, source)
        assert work.is_dir()
    prepared(tmp_path, source, max_chars=399)
    assert not work.exists()


def test_a_store_is_found_where_nothing_can_be_written(tmp_path):
    config = configured(tmp_path, f"en-fr={write_tsv(tmp_path / 'a.tsv', pairs(300))}")
    path = prepare(config, progress=lambda line: None)
    for entry in path.parent.iterdir():
        if entry.suffix == ".lock":
            entry.unlink()
    before = sorted(path.parent.iterdir())
    assert prepare(config, progress=lambda line: None) == path
    assert sorted(path.parent.iterdir()) == before


def test_ctrl_c_cleans_up(tmp_path):
    path = write_tsv(tmp_path / "a.tsv", pairs(300))

    def interrupt(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(configured(tmp_path, f"en-fr={path}"), progress=interrupt)
    assert not [p for p in (tmp_path / "stores").iterdir() if p.is_dir()]


def check_no_space(config, process):
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 1
    assert b"error: no space left in" in stderr
    assert b"Traceback" not in stderr
    assert not [p for p in Path(config.corpus.store).iterdir() if p.is_dir()]


def test_a_file_size_limit_leaves_older_stores_whole(tmp_path):
    first, _ = prepared(tmp_path, f"en-fr={write_tsv(tmp_path / 'a.tsv', pairs(300))}")
    config = configured(tmp_path, f"en-fr={write_tsv(tmp_path / 'b.tsv', pairs(5000))}")
    config = dataclasses.replace(
        config, corpus=dataclasses.replace(config.corpus, store=str(tmp_path / "other"))
    )
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
    check_no_space(config, child(config, preexec_fn=limit, stdout=subprocess.DEVNULL))
    Store.open(first.path)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounts a small disk")
@pytest.mark.parametrize("kilobytes", [600, 700, 900])
def test_a_full_disk_says_so_and_leaves_older_stores_whole(tmp_path, kilobytes):
    disk = tmp_path / "stores"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", disk]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        first, _ = prepared(tmp_path, f"en-fr={write_tsv(tmp_path / 'a.tsv', pairs(50))}")
        config = configured(tmp_path, f"en-fr={write_tsv(tmp_path / 'b.tsv', pairs(5000))}")
        process = child(config, stdout=subprocess.DEVNULL)
        _, stderr = process.communicate(timeout=300)
        assert b"error: no space left in" in stderr
        assert b"Traceback" not in stderr
        assert [p.name for p in disk.iterdir() if p.is_dir()] == [first.path.name]
        assert Store.open(first.path).train.rows > 30
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)  # the store is still mapped
