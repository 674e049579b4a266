import contextlib
import json
import mmap
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightxling.base.errors import UserError
from lightxling.corpus.store import Store, StoreWriter

FILES = [
    "manifest.json",
    "tokenizer.model",
    "train/tokens.bin",
    "train/offsets.npy",
    "train/group.npy",
    "dev/tokens.bin",
    "dev/offsets.npy",
    "dev/group.npy",
    "dev/text.tsv",
]
TRAIN = [
    ((5, 6), (7,), 0),
    ((8,), (9, 10, 11), 1),
    ((12,), (13,), 0),
]  # sides and group of each row


def flat(rows):
    sentences = [side for *sides, _ in rows for side in sides]
    ids = np.array([i for side in sentences for i in side], np.int64)
    return ids, np.array([len(s) for s in sentences]), np.array([row[-1] for row in rows])


def write(folder, rows=TRAIN, dtype=np.uint16, sides=2):
    """Writes a store with `rows`, appended one by one, and one dev row."""
    work = folder / "work"
    work.mkdir(parents=True)
    (work / "tokenizer.model").write_bytes(b"model")
    writer = StoreWriter(work, sides=sides, dtype=np.dtype(dtype))
    for row in rows:
        writer.train.append(*flat([row]))
    writer.dev.append(*flat([(*((20 + s,) for s in range(sides)), 0)]))
    writer.append_dev_texts([("Yes", "Oui", "Ja")[:sides]])
    groups = [{"languages": ["en", "fr"]}, {"languages": ["en", "de"]}]
    manifest = {"languages": ["de", "en", "fr"], "groups": groups}
    writer.finish(folder / "store", work / "tokenizer.model", manifest)
    return folder / "store"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("store"))


def test_what_is_written_is_read(path):
    store = Store.open(path)
    train = store.train
    assert train.rows == 3
    for row, (source, target, group) in enumerate(TRAIN):
        for side, ids in enumerate((source, target)):
            start, end = train.offsets[2 * row + side : 2 * row + side + 2]
            assert tuple(train.tokens[start:end]) == ids
        assert train.group[row] == group
    np.testing.assert_array_equal(train.lengths, [[2, 1], [1, 3], [1, 1]])
    assert train.lengths.dtype == np.int32
    assert store.dev.texts() == [("Yes", "Oui")]
    assert store.languages == ["de", "en", "fr"]
    assert store.groups[1]["languages"] == ["en", "de"]
    assert store.tokenizer_path.read_bytes() == b"model"


def test_rows_may_have_more_than_two_sides(tmp_path):
    rows = [((5,), (6, 7), (8, 9, 10), 0), ((11, 12), (13,), (14,), 1)]
    store = Store.open(write(tmp_path, rows, sides=3))
    np.testing.assert_array_equal(store.train.lengths, [[1, 2, 3], [2, 1, 1]])
    assert store.dev.texts() == [("Yes", "Oui", "Ja")]


def test_ids_keep_their_width(tmp_path):
    store = Store.open(write(tmp_path, [((70_000,), (3,), 0)], np.uint32))
    assert store.train.tokens.tolist() == [70_000, 3]
    assert store.train.tokens.dtype == np.uint32


def test_a_split_may_be_empty(tmp_path):
    store = Store.open(write(tmp_path, []))
    assert store.train.rows == 0
    assert store.train.lengths.shape == (0, 2)


def test_arrays_are_mapped_not_read(path):
    for array in (Store.open(path).train.tokens, Store.open(path).train.offsets):
        while isinstance(array, np.ndarray):
            array = array.base
        assert isinstance(array, mmap.mmap)


def test_rows_that_do_not_fit_are_refused(tmp_path):
    writer = StoreWriter(tmp_path, sides=2, dtype=np.dtype(np.uint16))
    with contextlib.closing(writer), pytest.raises(ValueError, match="differ"):
        writer.train.append(np.array([1, 2]), np.array([1, 2]), np.array([0]))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("spoil", ["truncated", "altered", "missing"])
def test_a_damaged_file_is_named(path, tmp_path, name, spoil):
    shutil.copytree(path, tmp_path / "copy")
    file = tmp_path / "copy" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    if spoil == "missing":
        file.unlink()
    else:
        file.write_bytes(data[:-1] if spoil == "truncated" else data)
    with pytest.raises(UserError, match=rf"copy/{name} .*lightxling prepare") as error:
        Store.open(tmp_path / "copy")
    assert "\n" not in str(error.value)
    if spoil != "altered":
        with pytest.raises(UserError, match=name):
            Store.open(tmp_path / "copy", verify=False)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere is not a folder"):
        Store.open(tmp_path / "nowhere")


def test_a_half_written_store_has_no_name_and_does_not_open(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    writer = StoreWriter(work, sides=2, dtype=np.dtype(np.uint16))
    writer.train.append(*flat(TRAIN))
    assert [entry.name for entry in tmp_path.iterdir()] == ["work"]
    with contextlib.closing(writer), pytest.raises(UserError, match="not finished"):
        Store.open(writer.folder)


def test_a_number_changed_in_the_manifest_is_seen(path, tmp_path):
    shutil.copytree(path, tmp_path / "copy")
    file = tmp_path / "copy" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["groups"][0]["languages"] = ["en", "de"]
    file.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="was altered"):
        Store.open(tmp_path / "copy")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()), st.booleans())
def test_any_manifest_is_refused_in_one_message(path, tmp_path, data, known_format):
    if known_format and data.startswith(b"{"):
        data = b'{"format": 1, ' + data[1:].lstrip() if len(data) > 2 else b'{"format": 1}'
    copy = tmp_path / "copy"
    if not copy.exists():
        shutil.copytree(path, copy)
    (copy / "manifest.json").write_bytes(data)
    with pytest.raises(UserError, match="manifest"):
        Store.open(copy)


def test_deep_json_is_no_crash(path, tmp_path):
    shutil.copytree(path, tmp_path / "copy")
    (tmp_path / "copy" / "manifest.json").write_bytes(b"[" * 1_000_000)
    with pytest.raises(UserError, match="manifest"):
        Store.open(tmp_path / "copy")
