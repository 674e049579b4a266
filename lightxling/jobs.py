"""Encoding and mining on many machines, as jobs of Ray Data (the extra `ray`).

A job runs on the Ray cluster that the command finds (`RAY_ADDRESS`, or one started by `ray start`),
and otherwise on the cores of this machine. All machines must see the same folders.

Vectors lie in a folder of parts, Parquet files of some thousand sentences each, under names that
the place of their first sentence gives. A worker writes a part under a temporary name and renames
it, and what it returns is only how many sentences that were. So a part that was computed twice,
because a worker died, is there once; and a job that was stopped goes on with the parts that lack.
"""

import collections
import dataclasses
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from lightxling.base.lines import SLAB, Lines, Problems
from lightxling.config import UserError, from_dict
from lightxling.encoder import Encoder
from lightxling.evaluate import mining
from lightxling.evaluate.retrieval import nearest
from lightxling.evaluate.run import MineSettings, write_pairs
from lightxling.files import atomic, check_output, parse_json, write_json

JOB, MANIFEST = "job.json", "manifest.json"
FORMAT = "lightxling vectors 1"
PARTS_AT_ONCE = 64
"""Parts of candidates that one task of mining compares with one part of queries."""


@dataclasses.dataclass(frozen=True)
class Workers:
    """The processes of a job."""

    count: int = 0
    """0: as many as the cluster has cores or accelerators for."""
    cpus: int = 1
    """Cores of each, and its threads."""
    gpus: int = 0
    """Accelerators of each, for encoding with jax; 0: encoding with numpy on its cores."""

    def __post_init__(self):
        flags = {"--workers": (self.count, 0), "--worker-cpus": (self.cpus, 1)}
        for flag, (value, least) in {**flags, "--worker-gpus": (self.gpus, 0)}.items():
            if value < least:
                raise UserError(f"{flag}={value} should be at least {least}")


def encode_files(
    encoder: Encoder,
    files: list[str],
    output: Path,
    *,
    workers: Workers | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    normalize: bool = True,
    batch_size: int = 256,
    part: int = SLAB,
    progress: Callable[[str], None] = lambda text: None,
) -> int:
    """Writes the vectors of all lines of text files into a folder of parts; returns their number.

    Columns of a part: `file` as given, `line` from 1, `text`, and `vector`, a list of fixed size.
    The vectors are those of `Encoder.encode` on `part` lines of a file at a time: bit for bit with
    as many threads on the same processor, else up to float32 rounding (1e-6). Empty lines have
    zeros.

    Args:
      files: text files (.gz too), one sentence a line.
      output: a new folder. Until the job is done it is called `output.writing`; the same command
        goes on with one that was left.
      dtype: of the vectors.
      part: sentences in a part.

    Raises:
      UserError: a file cannot be read, or the folder belongs to something else.
    """
    workers = workers or Workers()
    _check_files(files, output)
    job = {
        "format": FORMAT,
        "encoder": encoder.fingerprint,
        "dimension": encoder.dimension,
        "dtype": dtype,
        "normalize": normalize,
        "part": part,
        "files": files,
    }
    folder = output.with_name(output.name + ".writing")
    _check_folder(folder, job, output)
    ray = _connect()
    folder.mkdir(exist_ok=True)
    write_json(folder / JOB, job)
    settings = ray.put((encoder.bundle, job, folder.absolute(), batch_size, workers.gpus))
    rows = [{"file": i} for i in range(len(files))]
    paths = [str(Path(path).absolute()) for path in files]
    read = ray.data.from_items(rows, override_num_blocks=len(rows)).flat_map(
        _Read(paths, part),
        num_cpus=0,  # or the workers leave no core to read with
        compute=ray.data.TaskPoolStrategy(size=min(len(files), 4)),
    )
    done: dict[tuple[int, int], int] = {}
    ended = set()
    total = collections.Counter()
    start = said = time.monotonic()
    for row in _results(read, _Encode, settings, workers):
        done[row["file"], row["line"]] = row["rows"]
        ended |= {row["file"]} if row["last"] else set()
        total.update({key: row[key] for key in ("kept", "truncated", "damaged")})
        if time.monotonic() - said > 5:
            said = time.monotonic()
            rate = sum(done.values()) / (said - start)
            progress(f"{sum(done.values()):,} lines, {rate:,.0f} lines/s")
    parts = _in_order(done, part)
    if len(ended) < len(files):
        raise RuntimeError(f"{len(files) - len(ended)} files have no end")
    names = {_part_name(file, line) for file, line in parts}
    for leftover in folder.iterdir():  # half a file of a dead worker; parts of a file since cut
        if leftover.name not in {*names, JOB}:
            leftover.unlink()
    listed = [{"name": _part_name(*place), "rows": done[place]} for place in parts]
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


class _Read:
    """A file's number -> its lines, a part at a time."""

    def __init__(self, paths: list[str], part: int):
        self.paths, self.part = paths, part

    def __call__(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        line, counted = 1, 0
        with Lines.open(self.paths[row["file"]], Problems()) as lines:
            slabs = lines.slabs(self.part)
            texts: list[str] | None = next(slabs, [])
            while texts is not None:
                following = next(slabs, None)
                damaged, counted = lines.damaged - counted, lines.damaged
                about = {"file": row["file"], "line": line, "last": following is None}
                yield {**about, "text": texts, "damaged": damaged}
                line, texts = line + len(texts), following


class _Encode:
    """Lines -> a part on disk; holds the encoder."""

    def __init__(self, settings):
        bundle, self.job, self.folder, self.batch_size, gpus = _fetched(settings)
        self.encoder = Encoder(bundle, backend="jax" if gpus else "numpy")

    def __call__(self, batch):
        (row,) = batch.to_pylist()
        path = self.folder / _part_name(row["file"], row["line"])
        digest = hashlib.sha256("\n".join(row["text"]).encode()).digest()
        kept = _text_digest(path) == digest
        before = self.encoder.truncated
        if row["text"] and not kept:
            vectors = self.encoder.encode(row["text"], self.batch_size, self.job["normalize"])
            self.write(path, row, vectors.astype(self.job["dtype"], copy=False), digest)
        cut = self.encoder.truncated - before
        counts = {"rows": len(row["text"]), "kept": int(kept), "truncated": cut}
        result = {**counts, **{key: row[key] for key in ("file", "line", "last", "damaged")}}
        return {key: [value] for key, value in result.items()}

    def write(self, path: Path, row: dict[str, Any], vectors: np.ndarray, digest: bytes) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        count = len(vectors)
        name = pa.DictionaryArray.from_arrays(
            np.zeros(count, np.int32), [self.job["files"][row["file"]]]
        )
        line = np.arange(row["line"], row["line"] + count)
        vector = pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), vectors.shape[1])
        table = pa.table({"file": name, "line": line, "text": row["text"], "vector": vector})
        table = table.replace_schema_metadata({"text_sha256": digest})
        with atomic(path) as temporary:
            # vectors do not compress, and a dictionary of them is as large as they are
            pq.write_table(table, temporary, use_dictionary=["file"], compression={"text": "zstd"})


@dataclasses.dataclass(frozen=True)
class Part:
    """A Parquet file and the number of its sentences."""

    name: str
    rows: int


@dataclasses.dataclass(frozen=True)
class Vectors:
    """A folder that `encode_files` wrote, as its manifest describes it."""

    format: str
    encoder: str
    dimension: int
    dtype: str
    normalize: bool
    part: int
    files: tuple[str, ...]
    parts: tuple[Part, ...]
    """In the order of the text."""
    folder: str = ""

    @classmethod
    def open(cls, folder: Path) -> "Vectors":
        """Reads a manifest.

        Raises:
          UserError: the folder holds no vectors, or not all of them.
        """
        if folder.with_name(folder.name + ".writing").is_dir() and not folder.exists():
            raise UserError(f"{folder} is not finished; type its encode command again")
        try:
            found = from_dict(cls, parse_json((folder / MANIFEST).read_bytes()))
        except (OSError, ValueError, TypeError, UserError) as error:
            raise UserError(
                f"{folder} is no folder of vectors ({error}); "
                "lightxling encode MODEL FILES -o FOLDER --engine ray makes one"
            ) from None
        for part in found.parts:
            if not (folder / Path(part.name).name).is_file():
                raise UserError(f"{folder} lacks {part.name}: encode the text again")
        return dataclasses.replace(found, folder=str(folder.absolute()))

    def column(self, number: int, name: str):
        """A column of a part, as an arrow array."""
        import pyarrow.parquet as pq

        path = Path(self.folder) / Path(self.parts[number].name).name
        return pq.read_table(path, columns=[name], memory_map=True)[name].combine_chunks()

    def matrix(self, number: int, rows: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N D"]:
        """Vectors of some rows of a part."""
        flat = self.column(number, "vector").flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(-1, self.dimension)[rows]


def mine_folders(
    encoder: str,
    src: Path,
    tgt: Path,
    output: Path,
    *,
    settings: MineSettings | None = None,
    workers: Workers | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> int:
    """Writes `score<TAB>source<TAB>target`, best first, from two folders of vectors.

    Neighbours are found exactly, a part of one side against `PARTS_AT_ONCE` of the other in a task;
    they are merged by cosine and row, so that it does not matter who is ready first. Scores, and
    which pairs are kept, are computed in this process: it holds about 150 bytes a sentence and the
    text of the pairs.

    Args:
      encoder: fingerprint of the one whose vectors they should be.
      src, tgt: folders that `encode_files` wrote. Blank and repeated sentences are left out.

    Returns:
      The number of pairs.

    Raises:
      UserError: vectors of another encoder, or nothing to mine.
    """
    settings, workers = settings or MineSettings(), workers or Workers()
    check_output(output)
    if settings.search == "faiss":
        raise UserError("--search faiss: jobs search exactly; leave it out")
    ray = _connect()
    sides = Vectors.open(src), Vectors.open(tgt)
    for path, side in zip((src, tgt), sides, strict=True):
        if side.encoder != encoder:
            raise UserError(f"{path} holds vectors of another encoder; encode its text again")
    kept = tuple(_unique_rows(side) for side in sides)
    bounds = tuple(np.cumsum([0, *map(len, rows)]) for rows in kept)
    counts = [int(bound[-1]) for bound in bounds]
    for path, count in zip((src, tgt), counts, strict=True):
        if not count:
            raise UserError(f"{path} holds no sentences")
        progress(f"{path}: {count:,} different sentences")
    tasks = [
        {"side": side, "part": part, "first": first, "last": first + PARTS_AT_ONCE}
        for side in (0, 1)
        for part in range(len(kept[side]))
        for first in range(0, len(kept[1 - side]), PARTS_AT_ONCE)
    ]
    near = []
    for own, other in (counts, counts[::-1]):
        shape = own, min(settings.neighbours, other)
        near.append((np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int64)))
    shared = ray.put((sides, kept, bounds, settings.neighbours))
    lacking = {tuple(task.values()) for task in tasks}
    dataset = ray.data.from_items(tasks, override_num_blocks=len(tasks))
    said = time.monotonic()
    for row in _results(dataset, _Nearest, shared, workers):
        key = side, part, *_ = tuple(row[name] for name in ("side", "part", "first", "last"))
        if key not in lacking:  # twice: a neighbour must not be counted twice
            continue
        lacking.remove(key)
        rows = slice(*bounds[side][part : part + 2])
        best = near[side][0][rows], near[side][1][rows]  # views: written in place
        shape = len(best[0]), -1
        found = (
            np.frombuffer(row["cosines"], np.float32).reshape(shape),
            np.frombuffer(row["rows"], np.int64).reshape(shape),
        )
        best[0][:], best[1][:] = merge_nearest(best, found, best[0].shape[1])
        if time.monotonic() - said > 5:
            said = time.monotonic()
            progress(f"{len(tasks) - len(lacking):,} of {len(tasks):,} tasks")
    if lacking:
        raise RuntimeError(f"{len(lacking)} tasks have no result")
    mined = mining.best_pairs(*near, margin=settings.margin, retrieval=settings.direction)
    if settings.threshold is not None:
        mined = mined.above(settings.threshold)
    texts = [
        _texts(side, rows, wanted)
        for side, rows, wanted in zip(sides, kept, (mined.src, mined.tgt), strict=True)
    ]
    pairs = ((texts[0][i], texts[1][j]) for i, j in zip(mined.src, mined.tgt, strict=True))
    write_pairs(output, mined.score, pairs)
    return len(mined)


def merge_nearest(
    one: tuple[Float[np.ndarray, "Q K"], Int[np.ndarray, "Q K"]],
    other: tuple[Float[np.ndarray, "Q L"], Int[np.ndarray, "Q L"]],
    k: int,
) -> tuple[Float[np.ndarray, "Q M"], Int[np.ndarray, "Q M"]]:
    """The k best of two lists of neighbours, as (cosines, rows): equal cosines by row."""
    cosines = np.concatenate([one[0], other[0]], axis=1)
    rows = np.concatenate([one[1], other[1]], axis=1)
    order = np.lexsort((rows, -cosines), axis=1)[:, :k]
    return np.take_along_axis(cosines, order, axis=1), np.take_along_axis(rows, order, axis=1)


class _Nearest:
    """A part of one side and some of the other -> the nearest neighbours of its sentences."""

    def __init__(self, settings):
        self.sides, self.kept, self.bounds, self.k = _fetched(settings)

    def __call__(self, batch):
        (task,) = batch.to_pylist()
        side, other = task["side"], 1 - task["side"]
        queries = self.sides[side].matrix(task["part"], self.kept[side][task["part"]])
        best = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        for part, rows in enumerate(self.kept[other]):
            if not task["first"] <= part < task["last"]:
                continue
            if len(queries) and len(rows):
                cosines, at = nearest(queries, self.sides[other].matrix(part, rows), self.k)
                best = merge_nearest(best, (cosines, at + self.bounds[other][part]), self.k)
        found = {"cosines": best[0].tobytes(), "rows": best[1].tobytes()}
        return {key: [value] for key, value in {**task, **found}.items()}


def _unique_rows(side: Vectors) -> list[Int[np.ndarray, " N"]]:
    """For each part the rows whose text is neither blank nor in an earlier row."""
    keys, bounds = [], np.cumsum([0, *(part.rows for part in side.parts)])
    for number in range(len(side.parts)):
        texts = side.column(number, "text").to_pylist()
        keys += [
            hashlib.blake2b(text.encode(), digest_size=16).digest() if text.strip() else b""
            for text in texts
        ]
        if len(keys) != bounds[number + 1]:
            raise UserError(f"{side.folder}/{side.parts[number].name} has been altered")
    hashes = np.array(keys, "S16")
    filled = np.flatnonzero(hashes != b"")
    first = np.sort(filled[np.unique(hashes[filled], return_index=True)[1]])
    pieces = np.split(first, np.searchsorted(first, bounds[1:-1]))
    return [piece - start for piece, start in zip(pieces, bounds[:-1], strict=True)]


def _texts(side: Vectors, kept: list[np.ndarray], wanted: Int[np.ndarray, " M"]) -> dict[int, str]:
    """Texts by number, where the kept rows of all parts are counted."""
    texts, start, wanted = {}, 0, np.unique(wanted)
    for number, rows in enumerate(kept):
        here = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, start + len(rows))]
        if len(here):
            found = side.column(number, "text").take(rows[here - start])
            texts.update(zip(here.tolist(), found.to_pylist(), strict=True))
        start += len(rows)
    return texts


# Ray


def _connect():
    """The module, connected to a cluster; without one, to the cores of this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to its makers
    try:
        import ray
        import ray.data  # needs pyarrow, which the extra brings
    except ImportError as error:
        raise UserError("--engine ray needs Ray: pip install 'lightxling[ray]'") from error
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    return ray


def _fetched(settings):
    """What a worker was given, whether Ray has brought it or only told where it is."""
    import ray

    return ray.get(settings) if isinstance(settings, ray.ObjectRef) else settings


def _results(dataset, mapper: type, settings, workers: Workers) -> Iterator[dict[str, Any]]:
    """The rows that a pool of workers makes of a dataset, one row a task.

    Raises:
      UserError: as a worker raised it, or a task has failed too often.
    """
    import ray

    have = ray.cluster_resources()
    fits = int(
        have.get("GPU", 0) // workers.gpus if workers.gpus else have.get("CPU", 0) // workers.cpus
    )
    if not fits:
        raise UserError(
            f"no worker with {workers.cpus} cores and {workers.gpus} accelerators fits a cluster "
            f"of {have.get('CPU', 0):g} and {have.get('GPU', 0):g}; "
            "see --worker-cpus and --worker-gpus"
        )
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(workers.cpus))
    dataset.context.target_max_block_size = 1  # byte: every row is a task of its own
    dataset.context.enable_progress_bars = False
    mapped = dataset.map_batches(
        mapper,
        fn_constructor_args=(settings,),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers.count or fits),
        num_cpus=workers.cpus,
        num_gpus=workers.gpus or None,
        runtime_env={"env_vars": threads},
    )
    try:
        yield from mapped.iter_rows()
    except ray.exceptions.RayError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is None:
            raise
        raise UserError(str(cause)) from None


# Folders of vectors


def _part_name(file: int, line: int) -> str:
    return f"{file:05d}-{line:012d}.parquet"


def _check_files(files: list[str], output: Path) -> None:
    if not files:
        raise UserError("no files to encode")
    for path in files:
        if not Path(path).is_file():
            raise UserError(f"cannot read {path}: a job reads files, and this is none")
    twice = [path for path, count in collections.Counter(files).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]} is given twice")
    if output.suffix in (".npy", ".jsonl") or output.exists():
        raise UserError(f"--output {output}: a job writes a new folder; give another name")
    if not output.absolute().parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.absolute().parent}")


def _check_folder(folder: Path, job: dict[str, Any], output: Path) -> None:
    """Refuses a folder in the place of a job's that is not what the same job has left."""
    if folder.exists() and not (folder / JOB).exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is in the way and not of a job; move it")
    if (folder / JOB).exists():
        try:
            before = parse_json((folder / JOB).read_bytes())
        except ValueError:
            before = None
        before = before if isinstance(before, dict) else {}
        changed = sorted(key for key in job if before.get(key) != job[key])
        if changed:
            raise UserError(
                f"{folder} is of a job with other {', '.join(changed)}: remove it, or give "
                f"another --output than {output}"
            )


def _text_digest(path: Path) -> bytes | None:
    """sha256 of the text of a part; None where there is no whole part."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return (pq.read_schema(path).metadata or {}).get(b"text_sha256")
    except (OSError, pa.ArrowInvalid):
        return None


def _in_order(done: dict[tuple[int, int], int], part: int) -> list[tuple[int, int]]:
    """Places of the parts in the order of the text.

    Raises:
      UserError: lines lack or are there twice, which happens if a file changes while it is read.
    """
    places = sorted(done)
    following: dict[int, int] = {}
    for file, line in places:
        if line != following.get(file, 1):
            raise UserError("a file has changed while it was read; type the same command again")
        following[file] = line + done[file, line] if done[file, line] == part else -1
    return [place for place in places if done[place]]
