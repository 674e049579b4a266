"""A folder of vectors: Parquet files of some thousand sentences each, and what describes them.

A part has the columns `file`, `line` from 1, `text` and `vector`, a list of fixed size. Its name
gives the place of its first sentence, so that a part that was written twice is there once.
"""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from lightxling.base import limits
from lightxling.base.errors import UserError, first_line
from lightxling.base.files import atomic, parse_json
from lightxling.base.shapes import Float, Int
from lightxling.config.files import from_dict

VECTORS_FORMAT, MANIFEST = "lightxling vectors 1", "manifest.json"


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
        if writing(folder).is_dir() and not folder.exists():
            raise UserError(f"{folder} is not finished; type its encode command again")
        try:
            found = from_dict(cls, parse_json(limits.read_bytes(folder / MANIFEST)))
        except (OSError, ValueError, TypeError, UserError) as error:
            raise UserError(
                f"{folder} is not a folder of vectors ({error}); "
                "lightxling encode MODEL FILES -o FOLDER --engine ray makes one"
            ) from None
        for part in found.parts:
            if not (folder / Path(part.name).name).is_file():
                raise UserError(f"{part.name} is missing in {folder}: encode the text again")
        return dataclasses.replace(found, folder=str(folder.absolute()))

    def column(self, number: int, name: str):
        """A column of a part, as an arrow array.

        Raises:
          UserError: the part is damaged; those written before have no checksums.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = Path(self.folder) / Path(self.parts[number].name).name
        how = {"columns": [name], "memory_map": True, "page_checksum_verification": True}
        try:
            return pq.read_table(path, **how)[name].combine_chunks()
        except (OSError, pa.ArrowInvalid, KeyError) as error:
            raise UserError(
                f"{path} is damaged ({first_line(error)}); remove it and encode the text again"
            ) from None

    def matrix(self, number: int, rows: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N D"]:
        """Vectors of some rows of a part."""
        flat = self.column(number, "vector").flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(-1, self.dimension)[rows]


def writing(folder: Path) -> Path:
    """The name of a folder until all of it is there."""
    return folder.with_name(folder.name + ".writing")


def part_name(file: int, line: int) -> str:
    return f"{file:05d}-{line:012d}.parquet"


def text_digest(texts: list[str]) -> bytes:
    """sha256 of the lines of a part, which are kept with it."""
    return hashlib.sha256("\n".join(texts).encode()).digest()


def digest_of_part(path: Path) -> bytes | None:
    """`text_digest` of the part that stands there; None where there is no whole part."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return (pq.read_schema(path).metadata or {}).get(b"text_sha256")
    except (OSError, pa.ArrowInvalid):
        return None


def write_part(path: Path, file: str, first: int, texts: list[str], vectors: np.ndarray) -> None:
    """Writes the lines of a file from the line `first` on, and their vectors [N, D]."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = len(vectors)
    name = pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), [file])
    vector = pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), vectors.shape[1])
    line = np.arange(first, first + count)
    table = pa.table({"file": name, "line": line, "text": texts, "vector": vector})
    table = table.replace_schema_metadata({"text_sha256": text_digest(texts)})
    with atomic(path) as temporary:
        # vectors do not compress, and a dictionary of them is as large as they are
        how = {"use_dictionary": ["file"], "compression": {"text": "zstd"}}
        pq.write_table(table, temporary, **how, write_page_checksum=True)
