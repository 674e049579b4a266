"""A folder that searches across languages in a browser: the model, the tokenizer and one page.

Any static server will do. An encoder without layers is computed in JavaScript alone; of others the
page runs the ONNX graph with onnxruntime-web in WebAssembly, on one thread (more would need
response headers that plain servers do not send). The page's Content-Security-Policy refuses every
request but those for the files of the folder.

    python3 -m http.server --directory FOLDER --bind 127.0.0.1 8000
"""

import json
from pathlib import Path
from typing import Any

from lightxling.base.errors import UserError
from lightxling.base.extras import require
from lightxling.base.files import PACKAGE
from lightxling.base.places import DESCRIPTION, PARAMETERS, TOKENIZER
from lightxling.corpus import everyday
from lightxling.corpus.foreign_pieces import is_foreign
from lightxling.corpus.pieces import read_model
from lightxling.export import entities, onnx
from lightxling.export.web import runtime as onnxruntime_web
from lightxling.saved.bundle import Bundle
from lightxling.saved.parameters import write_params

MODEL, RUNTIME = "model.onnx", "runtime"
PORT = 8000
_READ = (1, 2, 3, 6)  # types of pieces that tokenizer.js knows: normal, unknown, control, byte
_OURS = PACKAGE / "export" / "web"
_SHORT = 45  # characters of an example


def check_web(bundle: Bundle, runtime: Path | None = None) -> None:
    """Finds out early what `write_web` would refuse.

    Args:
      runtime: the archive of onnxruntime-web; by default it is fetched once and kept.

    Raises:
      UserError: the tokenizer has something special, a package is missing, or the archive is not
        the pinned one, or of no use.
    """
    if is_foreign(bundle.tokenizer):
        raise UserError("--format web runs tokenizers that were trained here; use --format onnx")
    model = read_model(bundle.tokenizer)
    if model.trainer_spec.treat_whitespace_as_suffix or any(
        piece.type not in _READ for piece in model.pieces
    ):
        raise UserError(
            "--format web reads no tokenizers with user-defined or unused pieces, or with spaces "
            "after words; use --format onnx"
        )
    if bundle.config.layers:
        require("--format web", "onnx")
        onnxruntime_web.find_runtime(runtime)
    elif runtime is not None:
        raise UserError("--runtime is not needed: this encoder has no layers; leave it out")


def write_web(bundle: Bundle, folder: Path, runtime: Path | None = None) -> None:
    """Writes the page, and what it runs.

    Args:
      runtime: the archive of onnxruntime-web; by default it is fetched once and kept.
    """
    if bundle.config.layers:
        about = _write_graph(bundle, folder, runtime)
    else:
        about = _write_bag(bundle, folder)
    (folder / TOKENIZER).write_bytes(bundle.tokenizer)
    if bundle.unescape:
        entities.write_entities(folder)
    for file in (PACKAGE / "palette.css", *(_OURS / "page").iterdir()):
        (folder / file.name).write_bytes(file.read_bytes())
    query, sentences = examples(bundle.languages)
    description = {
        "format": "web",
        "dtype": bundle.dtype,
        "dimension": bundle.dimension,
        "max_length": bundle.config.max_length,
        "languages": list(bundle.languages),
        **about,
        "tokenizer": TOKENIZER,
        "entities": entities.FILE if bundle.unescape else None,
        "files": {
            file.relative_to(folder).as_posix(): file.stat().st_size
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        },
        "query": query,
        "sentences": sentences,
    }
    text = json.dumps(description, indent=2, ensure_ascii=False)
    (folder / DESCRIPTION).write_text(text + "\n", "utf-8", newline="\n")


def _write_graph(bundle: Bundle, folder: Path, runtime: Path | None) -> dict[str, Any]:
    """The graph and what runs it; tells what config.json says of them."""
    (folder / MODEL).write_bytes(onnx.graph(bundle).SerializeToString())
    (folder / RUNTIME).mkdir()
    onnxruntime_web.unpack(onnxruntime_web.find_runtime(runtime), folder / RUNTIME)
    (folder / RUNTIME / "LICENSE").write_bytes((_OURS / "runtime-license.txt").read_bytes())
    module, binary = (f"{RUNTIME}/{name}" for name in onnxruntime_web.RUNTIME_FILES.values())
    return {"model": MODEL, "runtime": {"module": module, "binary": binary}}


def _write_bag(bundle: Bundle, folder: Path) -> dict[str, Any]:
    """The parameters; tells what config.json says of them."""
    write_params(folder / PARAMETERS, bundle.params, {})
    bag = {"pooling": bundle.config.pooling, "norm_eps": bundle.config.norm_eps}
    return {"model": PARAMETERS, "runtime": None, "bag": bag}


def examples(languages: tuple[str, ...]) -> tuple[str, list[dict[str, str]]]:
    """A question and sentences to find its translations among, in languages of the encoder.

    Everyday sentences: one of every topic in two languages, and the question's in all languages
    but its own. Without two languages that they are written in, there are none.
    """
    known = [code for code in everyday.LANGUAGES if not languages or code in languages]
    if len(known) < 2:
        return "", []
    topics = {}
    for row in everyday.read_sentences():
        texts = dict(zip(everyday.LANGUAGES, row.texts, strict=True))
        if len(texts["en"]) < _SHORT:
            topics.setdefault(row.frame.partition(":")[0], texts)
    asked = topics.pop("travel")
    found = [(code, asked[code]) for code in known[1:]]
    for i, texts in enumerate(topics.values()):
        for code in dict.fromkeys((known[i % len(known)], known[(i + 1) % len(known)])):
            found.append((code, texts[code]))
    found.sort(key=lambda pair: (known.index(pair[0]), pair[1]))
    return asked[known[0]], [{"language": code, "text": text} for code, text in found]


def describe_web(folder: Path) -> list[str]:
    """What an export holds, and how to open it."""
    description = json.loads((folder / DESCRIPTION).read_text("utf-8"))
    sizes: dict[str, int] = description["files"]
    model, tokenizer = sizes[description["model"]], sizes[TOKENIZER]
    ran = sum(size for name, size in sizes.items() if name.startswith(f"{RUNTIME}/"))
    page = sum(sizes.values()) - model - tokenizer - ran
    runs = f"onnxruntime-web {onnxruntime_web.VERSION} {ran / 1e6:,.1f} MB, " if ran else ""
    return [
        f"model {model / 1e6:,.1f} MB, tokenizer {tokenizer / 1e6:,.1f} MB, {runs}"
        f"page {page / 1e6:.2f} MB",
        f"to open it: python3 -m http.server --directory {folder} --bind 127.0.0.1 {PORT}, then "
        f"http://127.0.0.1:{PORT}/",
    ]
