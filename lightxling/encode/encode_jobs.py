"""Encoding files on many machines, as a job of Ray Data.

A worker writes a part of a folder of vectors under a temporary name and renames it, and what it
returns is only how many sentences that were. So a part that was computed twice, because a worker
died, is there once; and a job that was stopped goes on with the parts that are missing.
"""

import collections
import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.files import check_parent, parse_json, write_json
from lightxling.base.lines import SLAB, Lines, Problems, slabs
from lightxling.base.vectors import check_finite
from lightxling.encode.encoder import Encoder
from lightxling.encode.jobs import Workers, connect, fetched, results
from lightxling.encode.vector_folders import (
    MANIFEST,
    VECTORS_FORMAT,
    digest_of_part,
    part_name,
    text_digest,
    write_part,
    writing,
)

JOB = "job.json"


def encode_files(
    encoder: Encoder,
    files: list[str],
    output: Path,
    *,
    workers: Workers | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    normalize: bool = True,
    batch_size: int = 256,
    progress: Callable[[str], None] = lambda text: None,
) -> int:
    """Writes the vectors of all lines of text files into a folder of parts; returns their number.

    The vectors are those of `Encoder.encode` on `SLAB` lines of a file at a time: bit for bit with
    as many threads on the same processor, else up to float32 rounding (1e-6). Empty lines have
    zeros.

    Args:
      files: text files (.gz too), one sentence a line.
      output: a new folder. Until the job is done it is called `output.writing`; the same command
        goes on with one that was left.
      dtype: of the vectors.

    Raises:
      UserError: a file cannot be read, or the folder belongs to something else.
    """
    workers = workers or Workers()
    _check_files(files, output)
    job = {
        "format": VECTORS_FORMAT,
        "encoder": encoder.fingerprint,
        "dimension": encoder.dimension,
        "dtype": dtype,
        "normalize": normalize,
        "part": SLAB,
        "files": files,
    }
    folder = writing(output)
    _check_folder(folder, job, output)
    ray = connect()
    folder.mkdir(exist_ok=True)
    write_json(folder / JOB, job)
    settings = ray.put((encoder.bundle, job, folder.absolute(), batch_size, workers.gpus))
    rows = results(_read(files, SLAB), _Encode, settings, workers)
    done, total = _follow(rows, len(files), progress)
    parts = _in_order(done, SLAB)
    names = {part_name(file, line) for file, line in parts}
    for leftover in folder.iterdir():  # half a file of a dead worker; parts of a file since cut
        if leftover.name not in {*names, JOB}:
            leftover.unlink()
    listed = [{"name": part_name(*place), "rows": done[place]} for place in parts]
    write_json(folder / MANIFEST, {**job, "parts": listed})
    (folder / JOB).unlink()
    folder.rename(output)
    if total["kept"]:
        progress(f"{total['kept']:,} parts had been written before")
    if total["damaged"]:
        progress(f"{total['damaged']:,} lines repaired: they hold what is not text")
    if total["truncated"]:
        progress(f"{total['truncated']:,} lines were cut to {encoder.max_length} tokens")
    return sum(done.values())


def _follow(
    rows: Iterator[dict[str, Any]], files: int, progress: Callable[[str], None]
) -> tuple[dict[tuple[int, int], int], collections.Counter]:
    """Lines of every part, by file and first line, and what else was counted over all of them."""
    done: dict[tuple[int, int], int] = {}
    ended = set()
    total: collections.Counter[str] = collections.Counter()
    start = said = time.monotonic()
    for row in rows:
        done[row["file"], row["line"]] = row["rows"]
        ended |= {row["file"]} if row["last"] else set()
        total.update({key: row[key] for key in ("kept", "truncated", "damaged")})
        if time.monotonic() - said > 5:
            said = time.monotonic()
            rate = sum(done.values()) / (said - start)
            progress(f"{sum(done.values()):,} lines, {rate:,.0f} lines/s")
    if len(ended) < files:
        raise RuntimeError(f"{files - len(ended)} files have no end")
    return done, total


def _read(files: list[str], part: int):
    """A dataset of the lines of all files."""
    import ray

    rows = [{"file": i} for i in range(len(files))]
    return ray.data.from_items(rows, override_num_blocks=len(rows)).flat_map(
        _Read([str(Path(path).absolute()) for path in files], part),
        num_cpus=0,  # or the workers leave no core to read with
        compute=ray.data.TaskPoolStrategy(size=min(len(files), 4)),
    )


class _Read:
    """A file's number -> its lines, a part at a time."""

    def __init__(self, paths: list[str], part: int):
        self.paths, self.part = paths, part

    def __call__(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        line, counted = 1, 0
        with Lines.open(self.paths[row["file"]], Problems()) as lines:
            parts = slabs(lines, self.part)
            texts: list[str] | None = next(parts, [])
            while texts is not None:
                following = next(parts, None)
                damaged, counted = lines.damaged - counted, lines.damaged
                about = {"file": row["file"], "line": line, "last": following is None}
                yield {**about, "text": texts, "damaged": damaged}
                line, texts = line + len(texts), following


class _Encode:
    """Lines -> a part on disk; holds the encoder."""

    def __init__(self, settings):
        bundle, self.job, self.folder, self.batch_size, gpus = fetched(settings)
        self.encoder = Encoder(bundle, backend="jax" if gpus else "numpy")

    def __call__(self, batch):
        (row,) = batch.to_pylist()
        texts = row["text"]
        path = self.folder / part_name(row["file"], row["line"])
        kept = digest_of_part(path) == text_digest(texts)
        before = self.encoder.truncated
        if texts and not kept:
            vectors = self.encoder.encode(texts, self.batch_size, self.job["normalize"])
            with np.errstate(over="ignore"):  # said by the check, with its line
                vectors = vectors.astype(self.job["dtype"], copy=False)
            name = self.job["files"][row["file"]]
            check_finite(vectors, f"{name}, in {self.job['dtype']}: line", row["line"])
            write_part(path, self.job["files"][row["file"]], row["line"], texts, vectors)
        cut = self.encoder.truncated - before
        counts = {"rows": len(texts), "kept": int(kept), "truncated": cut}
        result = {**counts, **{key: row[key] for key in ("file", "line", "last", "damaged")}}
        return {key: [value] for key, value in result.items()}


def _check_files(files: list[str], output: Path) -> None:
    if not files:
        raise UserError("no files to encode")
    for path in files:
        if not Path(path).is_file():
            raise UserError(f"cannot read {path}: a job reads files, and this is not one")
    twice = [path for path, count in collections.Counter(files).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]} is given twice")
    if output.suffix in (".npy", ".f32", ".jsonl") or output.exists():
        raise UserError(f"--output {output}: a job writes a new folder; give another name")
    check_parent(output)


def _check_folder(folder: Path, job: dict[str, Any], output: Path) -> None:
    """Refuses a folder in the place of a job's that is not what the same job has left."""
    if folder.exists() and not (folder / JOB).exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is in the way and not of a job; move it")
    if (folder / JOB).exists():
        before = {}
        with contextlib.suppress(ValueError, TypeError):  # half a file, or not one of ours
            before = dict(parse_json(limits.read_bytes(folder / JOB)))
        changed = sorted(key for key in job if before.get(key) != job[key])
        if changed:
            raise UserError(
                f"{folder} is of a job with other {', '.join(changed)}: remove it, or give "
                f"another --output than {output}"
            )


def _in_order(done: dict[tuple[int, int], int], part: int) -> list[tuple[int, int]]:
    """Places of the parts in the order of the text.

    Raises:
      UserError: lines are missing or there twice, which happens if a file changes while it is read.
    """
    places = sorted(done)
    following: dict[int, int] = {}
    for file, line in places:
        if line != following.get(file, 1):
            raise UserError("a file has changed while it was read; type the same command again")
        following[file] = line + done[file, line] if done[file, line] == part else -1
    return [place for place in places if done[place]]
