"""A folder that searches across languages in a browser: the model, the tokenizer and one page.

Any static server will do. The page runs the ONNX graph with onnxruntime-web in WebAssembly, on one
thread (more would need response headers that plain servers do not send), and its
Content-Security-Policy refuses every request but those for the files of the folder.

    python3 -m http.server --directory FOLDER --bind 127.0.0.1 8000
"""

import json
from pathlib import Path

from lightxling.base.errors import UserError
from lightxling.base.files import PACKAGE
from lightxling.base.places import DESCRIPTION, TOKENIZER
from lightxling.corpus import everyday
from lightxling.corpus.foreign_pieces import is_foreign
from lightxling.corpus.pieces import read_model
from lightxling.export import entities, onnx
from lightxling.export.web import runtime as onnxruntime_web
from lightxling.saved.bundle import Bundle

MODEL, RUNTIME = "model.onnx", "runtime"
PORT = 8000
_READ = (1, 2, 3, 6)  # types of pieces that tokenizer.js knows: normal, unknown, control, byte
_SHORT = 45  # characters of an example


def check_web(bundle: Bundle, runtime: Path | None = None) -> None:
    """Finds out early what `write_web` would refuse.

    Args:
      runtime: the archive of onnxruntime-web; by default it is fetched once and kept.

    Raises:
      UserError: the tokenizer has something special, or the archive is not the pinned one.
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
    onnxruntime_web.find_runtime(runtime)


def write_web(bundle: Bundle, folder: Path, runtime: Path | None = None) -> None:
    """Writes the page, and what it runs.

    Args:
      runtime: the archive of onnxruntime-web; by default it is fetched once and kept.
    """
    (folder / MODEL).write_bytes(onnx.graph(bundle).SerializeToString())
    (folder / TOKENIZER).write_bytes(bundle.tokenizer)
    if bundle.unescape:
        entities.write_entities(folder)
    (folder / RUNTIME).mkdir()
    onnxruntime_web.unpack(onnxruntime_web.find_runtime(runtime), folder / RUNTIME)
    ours = PACKAGE / "export" / "web"
    (folder / RUNTIME / "LICENSE").write_bytes((ours / "runtime-license.txt").read_bytes())
    palette = PACKAGE / "palette.css"
    for file in (palette, *(ours / "page").iterdir()):
        (folder / file.name).write_bytes(file.read_bytes())
    query, sentences = examples(bundle.languages)
    module, binary = (f"{RUNTIME}/{name}" for name in onnxruntime_web.RUNTIME_FILES.values())
    description = {
        "format": "web",
        "dtype": bundle.dtype,
        "dimension": bundle.dimension,
        "max_length": bundle.config.max_length,
        "languages": list(bundle.languages),
        "model": MODEL,
        "tokenizer": TOKENIZER,
        "entities": entities.FILE if bundle.unescape else None,
        "runtime": {"module": module, "binary": binary},
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
    sizes: dict[str, int] = json.loads((folder / DESCRIPTION).read_text("utf-8"))["files"]
    model, tokenizer = sizes[MODEL], sizes[TOKENIZER]
    ran = sum(size for name, size in sizes.items() if name.startswith(f"{RUNTIME}/"))
    page = sum(sizes.values()) - model - tokenizer - ran
    return [
        f"model {model / 1e6:,.1f} MB, tokenizer {tokenizer / 1e6:,.1f} MB, onnxruntime-web "
        f"{onnxruntime_web.VERSION} {ran / 1e6:,.1f} MB, page {page / 1e6:.2f} MB",
        f"to open it: python3 -m http.server --directory {folder} --bind 127.0.0.1 {PORT}, then "
        f"http://127.0.0.1:{PORT}/",
    ]
