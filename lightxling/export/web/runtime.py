"""onnxruntime-web, which runs the model in a browser: fetched once from npm's registry, pinned.

The package is on no Python index. Its archive is kept in the user's cache folder, or given as a
file, and in either case must be the very one that `SHA512` names.
"""

import base64
import hashlib
import shutil
import sys
import tarfile
import urllib.request
from http.client import HTTPException
from pathlib import Path

from lightxling.base.errors import UserError
from lightxling.base.files import atomic, cache

VERSION = "1.30.0"
ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"
"""What `npm pack onnxruntime-web@VERSION` writes."""
URL = f"https://registry.npmjs.org/onnxruntime-web/-/{ARCHIVE}"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""As npm writes hashes, in base64."""
TIMEOUT = 60  # seconds without a byte
_BY_HAND = (
    f"where there is a network, run `npm pack onnxruntime-web@{VERSION}` or fetch {URL}, and give "
    f"--runtime {ARCHIVE}"
)

# members of the archive, and their names in an export: servers know the type of .js, not of .mjs
RUNTIME_FILES = {
    "package/dist/ort.wasm.bundle.min.mjs": "ort.js",  # for processors, without WebGPU
    "package/dist/ort-wasm-simd-threaded.wasm": "ort.wasm",
}


def find_runtime(given: Path | None = None) -> Path:
    """The archive: the given file, the one in the cache, or one that is fetched into the cache.

    Raises:
      UserError: it is not the pinned one, or cannot be had.
    """
    if given is not None:
        if not _is_pinned(given):
            raise UserError(
                f"--runtime {given} is not the archive of onnxruntime-web {VERSION}; {_BY_HAND}"
            )
        return given
    kept = cache() / ARCHIVE
    if not _is_pinned(kept):
        print(f"fetching {URL} to {kept}", file=sys.stderr)
        with atomic(kept) as temporary:
            kept.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(_fetch())
            if not _is_pinned(temporary):
                raise UserError(f"what came is not onnxruntime-web {VERSION}; {_BY_HAND}")
    return kept


def unpack(archive: Path, folder: Path) -> None:
    """Writes the files of `RUNTIME_FILES` into a folder that exists."""
    wanted = dict(RUNTIME_FILES)
    with tarfile.open(archive, "r|gz") as members:  # in one pass: seeking would unpack it again
        for member in members:
            if target := wanted.pop(member.name, None):
                with members.extractfile(member) as source, open(folder / target, "wb") as file:
                    shutil.copyfileobj(source, file)
            if not wanted:
                return


def _fetch() -> bytes:
    try:
        with urllib.request.urlopen(URL, timeout=TIMEOUT) as answer:
            return answer.read()
    except (OSError, HTTPException) as error:
        raise UserError(f"cannot fetch onnxruntime-web ({error}); {_BY_HAND}") from None


def _is_pinned(path: Path) -> bool:
    """Whether a file is there and has the hash."""
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha512").digest()
    except OSError:
        return False
    return base64.b64encode(digest).decode() == SHA512
