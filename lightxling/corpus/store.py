"""The token store: a prepared corpus as flat arrays, written once and then memory-mapped.

manifest.json      what is in the store, where it came from, and the sha256 of every file below
tokenizer.model
train/, dev/       tokens.bin   ids of all sentences, end to end: little-endian uint16 or uint32
                   offsets.npy  int64 [sides * rows + 1]; side s of row r is the tokens from
                                offsets[sides * r + s] to offsets[sides * r + s + 1]
                   group.npy    uint16 [rows], index into manifest["groups"]: the row's source
                   label.npy    float32 [rows], a class or a score; only where rows have one
                                (manifest["rows_are"] is labels or scores)
words/             only where tokens are words, as numbers of a lexicon of the store (manifest
                   ["words"]): rows.npy int32 [U], ngrams.npy uint32 [U, G], see `words.WordTable`
dev/text.tsv       cleaned text of the development rows, one column per side
"""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.files import file_sha256, sync, sync_folder
from lightxling.base.vectors import map_array
from lightxling.config.files import fingerprint
from lightxling.corpus.sources import NUMBERS
from lightxling.corpus.words import WordTable

STORE_FORMAT = 1
_MANIFEST_LIMIT = 1 << 26  # bytes


def _arrays(rows: str) -> dict[str, str]:
    """Type of the arrays of a split beside its tokens, by name."""
    label = {"label": "<f4"} if rows in NUMBERS else {}
    return {"offsets": "<i8", "group": "<u2", **label}


def _files(rows: str, words: bool) -> tuple[str, ...]:
    arrays = ("tokens.bin", *(f"{name}.npy" for name in _arrays(rows)))
    return (
        "tokenizer.model",
        *(f"{split}/{name}" for split in ("train", "dev") for name in arrays),
        "dev/text.tsv",
        *(("words/rows.npy", "words/ngrams.npy") if words else ()),
    )


@dataclasses.dataclass(frozen=True)
class Split:
    """Rows of a store; every row holds `sides` sentences.

    Attributes:
      tokens: ids of all sentences end to end, uint16 or uint32.
      offsets: int64 [sides * rows + 1], where each sentence starts in `tokens`.
      group: uint16 [rows], index into the store's `groups`.
      sides: sentences per row.
      label: float32 [rows], a class or a score; None where rows have none.
      words: what the tokens stand for where they are words; None: they are rows of the embedding
        table themselves.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    group: np.ndarray
    sides: int
    folder: Path
    label: np.ndarray | None = None
    words: WordTable | None = None

    @property
    def rows(self) -> int:
        return len(self.group)

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of every sentence, int32 [rows, sides]."""
        return np.diff(self.offsets).astype(np.int32).reshape(self.rows, self.sides)

    def texts(self) -> list[tuple[str, ...]]:
        """The cleaned sentences of every row; only the dev split keeps them."""
        text = (self.folder / "text.tsv").read_text("utf-8")
        return [tuple(line.split("\t")) for line in text.split("\n")[:-1]]


@dataclasses.dataclass(frozen=True)
class Store:
    """An opened store.

    Attributes:
      languages: codes of all languages, sorted.
      groups: one per source, the `dev` sources last: `source` as the config names it, `languages`
        of its sides, `weight`, `rows` in train and `dev_rows` in dev.
      tokenizer_path: the sentencepiece model.
    """

    path: Path
    manifest: dict[str, Any]
    train: Split
    dev: Split

    @property
    def languages(self) -> list[str]:
        return self.manifest["languages"]

    @property
    def groups(self) -> list[dict[str, Any]]:
        return self.manifest["groups"]

    @property
    def content(self) -> str:
        """Hash of what is in it: the same wherever it was made from the same text."""
        return fingerprint({name: file["sha256"] for name, file in self.manifest["files"].items()})

    @property
    def tokenizer_path(self) -> Path:
        return self.path / "tokenizer.model"

    @classmethod
    def open(cls, path: str | os.PathLike[str], verify: bool = True) -> "Store":
        """Maps the store at `path`.

        UserError unless every file has the size and, with `verify`, the sha256 it was written with.
        """
        path = Path(path)
        if not path.is_dir():
            raise UserError(f"{path} is not a folder; make a store with `lightxling prepare`")
        try:
            manifest = _read_manifest(path / "manifest.json")
            for name in _files(manifest.get("rows_are", "pairs"), manifest.get("words", False)):
                _check_file(path / name, manifest["files"][name], verify)
            words = _open_words(path / "words") if manifest.get("words") else None
            splits = {name: _open_split(path / name, manifest, words) for name in ("train", "dev")}
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            raise _damaged(path / "manifest.json", "is damaged") from None
        return cls(path=path, manifest=manifest, **splits)


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path} {what}; run `lightxling prepare` again")


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(limits.read_bytes(path, _MANIFEST_LIMIT))
    except FileNotFoundError:
        raise _damaged(path, "is missing: the store was not finished") from None
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from None
    if manifest["format"] != STORE_FORMAT:
        raise _damaged(path, f"has format {manifest['format']}, this version reads {STORE_FORMAT}")
    if manifest.pop("checksum") != _checksum(manifest):
        raise _damaged(path, "was altered")
    return manifest


def _check_file(path: Path, expected: dict[str, Any], verify: bool) -> None:
    try:
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise _damaged(path, f"has {size} bytes instead of {expected['bytes']}")
        if verify and file_sha256(path) != expected["sha256"]:
            raise _damaged(path, "was altered: its sha256 is not the one it was written with")
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from None


def _open_words(folder: Path) -> WordTable:
    try:
        rows, ngrams = map_array(folder / "rows.npy"), map_array(folder / "ngrams.npy")
    except (OSError, ValueError):
        raise _damaged(folder, "cannot be mapped") from None
    if (rows.dtype, ngrams.dtype) != ("<i4", "<u4") or len(rows) != len(ngrams):
        raise _damaged(folder, "holds arrays that do not fit each other")
    return WordTable(*(np.asarray(array).view(np.ndarray) for array in (rows, ngrams)))


def _open_split(folder: Path, manifest: dict[str, Any], words: WordTable | None) -> Split:
    sides, dtype = manifest["sides"], np.dtype(manifest["dtype"]).newbyteorder("<")
    path = folder / "tokens.bin"
    try:
        # An empty file cannot be mapped.
        tokens = np.memmap(path, dtype, "r") if path.stat().st_size else np.empty(0, dtype)
        types = _arrays(manifest.get("rows_are", "pairs"))
        arrays = {name: map_array(folder / f"{name}.npy") for name in types}
    except (OSError, ValueError):
        raise _damaged(folder, "cannot be mapped") from None
    rows = arrays["group"].size
    shapes = dict.fromkeys(types, (rows,)) | {"offsets": (sides * rows + 1,)}
    fit = all((a.dtype, a.shape) == (types[name], shapes[name]) for name, a in arrays.items())
    if not fit or arrays["offsets"][-1] != len(tokens):
        raise _damaged(folder, "holds arrays that do not fit each other")
    arrays["tokens"] = tokens
    # A plain array over the same mapping: np.memmap costs microseconds per slice.
    plain = {name: np.asarray(array).view(np.ndarray) for name, array in arrays.items()}
    return Split(**plain, sides=sides, folder=folder, words=words)


def file_entry(path: Path) -> dict[str, Any]:
    """A file as a manifest has it."""
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def _checksum(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


class _ArrayWriter:
    """A one-dimensional .npy file written piece by piece."""

    def __init__(self, path: Path, dtype: str):
        self._file = open(path, "wb")  # noqa: SIM115
        self._dtype, self._length = np.dtype(dtype), 0
        self._write_header()

    def _write_header(self) -> None:
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._length,)}
        np.lib.format.write_array_header_1_0(self._file, header)  # pads for the length to grow

    def append(self, values: np.ndarray) -> None:
        self._file.write(values.astype(self._dtype).tobytes())
        self._length += len(values)

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.close()


class _SplitWriter:
    def __init__(self, folder: Path, sides: int, dtype: np.dtype, rows_are: str):
        folder.mkdir()
        self.rows = 0
        self._sides, self._dtype, self._end = sides, dtype.newbyteorder("<"), 0
        self._tokens = open(folder / "tokens.bin", "wb")  # noqa: SIM115
        self._arrays = {
            name: _ArrayWriter(folder / f"{name}.npy", of) for name, of in _arrays(rows_are).items()
        }
        self._arrays["offsets"].append(np.zeros(1))

    def append(
        self,
        ids: np.ndarray,
        lengths: np.ndarray,
        group: np.ndarray,
        label: np.ndarray | None = None,
    ) -> None:
        """Adds rows: ids of all sentences end to end, lengths [rows * sides], group [rows], label
        [rows] where rows have one."""
        if len(lengths) != self._sides * len(group) or lengths.sum() != len(ids):
            raise ValueError(f"{len(ids)} ids, {len(lengths)} lengths, {len(group)} groups differ")
        self._tokens.write(ids.astype(self._dtype).tobytes())
        values = {"offsets": self._end + np.cumsum(lengths), "group": group, "label": label}
        for name, array in self._arrays.items():
            array.append(values[name])
        self._end += len(ids)
        self.rows += len(group)

    def close(self) -> None:
        for file in (self._tokens, *self._arrays.values()):
            file.close()


class StoreWriter:
    """Writes a store into `work`; `finish` moves it to its place in one step.

    `work` exists already, may hold other files, and lies on the file system of the final place.
    """

    def __init__(self, work: Path, *, sides: int, dtype: np.dtype, rows_are: str = "pairs"):
        """
        Args:
          rows_are: see `sources.Rows`; rows with labels or scores have a number each.
        """
        self._sides, self._dtype, self._rows_are = sides, dtype, rows_are
        self.folder = work / "store"
        self.folder.mkdir()
        self.train = _SplitWriter(self.folder / "train", sides, dtype, rows_are)
        self.dev = _SplitWriter(self.folder / "dev", sides, dtype, rows_are)
        path = self.folder / "dev" / "text.tsv"
        self._text = open(path, "w", encoding="utf-8", newline="\n")  # noqa: SIM115

    def append_dev_texts(self, rows: Sequence[Sequence[str]]) -> None:
        self._text.writelines("\t".join(row) + "\n" for row in rows)

    def close(self) -> None:
        """Ends the writing; only `finish` makes a store of it."""
        self.train.close()
        self.dev.close()
        self._text.close()

    def finish(
        self,
        final: Path,
        tokenizer: Path,
        manifest: dict[str, Any],
        words: WordTable | None = None,
    ) -> None:
        """Moves the tokenizer in, adds the manifest and gives the store its name `final`."""
        self.close()
        os.replace(tokenizer, self.folder / "tokenizer.model")
        if words:
            (self.folder / "words").mkdir()
            np.save(self.folder / "words" / "rows.npy", words.rows)
            np.save(self.folder / "words" / "ngrams.npy", words.ngrams)
        names = _files(self._rows_are, words is not None)
        for name in names:
            sync(self.folder / name)
        manifest = {
            "format": STORE_FORMAT,
            "sides": self._sides,
            "dtype": self._dtype.name,
            **({} if self._rows_are == "pairs" else {"rows_are": self._rows_are}),
            **({"words": True} if words else {}),
            "rows": {"train": self.train.rows, "dev": self.dev.rows},
            **manifest,
            "files": {name: file_entry(self.folder / name) for name in names},
        }
        manifest = json.loads(json.dumps(manifest))  # as it will be read: the checksum covers that
        manifest["checksum"] = _checksum(manifest)
        path = self.folder / "manifest.json"
        # ASCII: the name of a file may be no text (lone surrogates)
        path.write_text(json.dumps(manifest, indent=1), "utf-8", newline="\n")
        sync(path)
        for folder in (*(self.folder / name for name in ("train", "dev")), self.folder):
            sync_folder(folder)
        os.replace(self.folder, final)
        sync_folder(final.parent)


FEW = 100
"""Dev pairs of a language pair below which its P@1 is coarse."""


def describe_dev(manifest: dict[str, Any]) -> Iterator[str]:
    """What should be known about the dev pairs of a store before their P@1 is read."""
    given = manifest["counts"].get("dev", {})
    limit = manifest.get("config", {}).get("corpus", {}).get("dev_limit", 0)
    counts: dict[str, int] = {}
    for group in manifest["groups"]:
        name = "-".join(group["languages"])
        counts[name] = counts.get(name, 0) + group["dev_rows"]
    dropped = given.get("dropped", {})
    if dropped:
        why = ", ".join(f"{n:,} {reason}" for reason, n in dropped.items())
        yield f"dev: of the {given['read']:,} pairs given, left out: {why}"
    cut = [name for name, n in counts.items() if n == limit]
    if cut and given.get("read", 0) - sum(dropped.values()) > given["kept"]:
        yield (
            f"dev: of {', '.join(cut)}, {limit:,} of the pairs given are used "
            f"(corpus.dev_limit={limit}); P@1 among fewer candidates is higher: compare no numbers "
            "of different sets"
        )
    few = {name: n for name, n in counts.items() if 0 < n < FEW}
    if few:
        yield (
            f"dev: only {', '.join(f'{n} of {name}' for name, n in few.items())}; a hit more is "
            f"{100 / min(few.values()):.1f} points of P@1. Give some 1,000 pairs with corpus.dev, "
            "or a larger corpus.dev_share"
        )
