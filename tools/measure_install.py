"""Installs the wheel into empty environments, walks through the commands there, and measures.

    python tools/measure_install.py [--write docs/install.md] [--extras "" serve] [--sizes serve]

Needs uv. Every environment is made in a temporary folder and removed again. A command of the walk
works, or says in one line which extra it needs; anything else is an error. `--extras` are those to
measure, by default all; those of `--sizes` are not walked through. Beside them stands model2vec,
the lightest other program that encodes sentences. Seconds are those of the processor, which are
much the same on a busy machine. `--source` takes another checkout and prints its table only.
"""

import argparse
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = ("", "export", "serve", "faiss", "ray", "tfds", "train", "sentence-transformers", "mteb")
LARGE = ("sentence-transformers", "mteb")
"""Bring PyTorch; nothing is walked through there by default."""
RIVAL = "model2vec"

TINY = (
    "--corpus.sources en-de=pairs.tsv --corpus.dev en-de=dev.tsv --tokenizer.vocab-size 48 "
    "--model.width 16 --model.layers 1 --model.heads 2 --model.feedforward 16 "
    "--model.max-length 16 --train.batch-size 8 --train.micro-batch 8 --train.pairs 32 "
    "--train.buckets 16 --train.dev-every 4 --train.checkpoint-every 4 --optimizer.warmup-steps 2"
)
"""Four steps, in seconds."""

WALK = {
    "encode": "encode texts.txt -o vectors.npy",
    "search": "search texts.txt --query train",
    "mine": "mine other.txt texts.txt -o mined.tsv",
    "evaluate": "evaluate BOXED --task retrieval --data en-de=dev.tsv --output scores",
    "evaluate --task classification": (
        "evaluate BOXED --task classification --data labels --epochs 2 --seeds 1 --output scores"
    ),
    "export --format safetensors": "export BOXED --trim True --text texts.txt -o small",
    "export --format sentence-transformers": "export BOXED --format sentence-transformers -o st",
    "export --format onnx": "export BOXED --format onnx -o onnx",
    "export --format stablehlo": "export BOXED --format stablehlo -o hlo",
    "specialise": "specialise BOXED texts.txt --language de -o german",
    "paraphrases": "paraphrases en-de=several.tsv -o paraphrases",
    "compare": "compare small",
    "serve": "serve --port 0",
    "encode --engine ray": "encode texts.txt --engine ray -o parts",
    "prepare": f"prepare light {TINY}",
    "train": f"train light --workdir run {TINY}",
    "encode of a run": "encode run texts.txt -o run.npy",
    "report": "report run -o report.html",
    "models": "models",
    "dedup": "dedup pairs.tsv",
    "plan": f"plan light {TINY}",
    "sweep": "sweep light --workdir swept -- --corpus.sources en-de=pairs.tsv",
    "quickstart": "quickstart --workdir quick",
    "modular": "modular BOXED --workdir modules --sources en-de=pairs.tsv",
}
"""What is typed; BOXED stands for the folder of the encoder in the package."""

MINUTES = ("quickstart", "modular", "sweep")
"""Take minutes where they work, so that they are asked for only where they should not."""

FIND = "import importlib.util; print(importlib.util.find_spec('jax') is not None)"

COLD = """
import json, sys, time
start = time.process_time()
import lightxling
encoder = lightxling.Encoder.load()
vector = encoder.encode(["Where is the station?"])
seconds = time.process_time() - start
heavy = sorted({"jax", "jaxtyping", "pyarrow", "scipy", "torch"} & set(sys.modules))
print(json.dumps({"seconds": seconds, "heavy": heavy, "vector": vector[0, :8].tolist()}))
"""


class Installed(NamedTuple):
    """An environment with the wheel in it."""

    folder: Path
    seconds: float
    """Of the processor, that the installation took, downloads in uv's cache."""

    @property
    def programs(self) -> Path:
        return self.folder / ("Scripts" if os.name == "nt" else "bin")

    @property
    def python(self) -> Path:
        return self.programs / "python"

    def packages(self) -> Path:
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        return Path(self.run("-c", code).strip())

    def run(self, *words: str, cwd: Path | None = None, timeout: float = 600) -> str:
        """What python prints."""
        done = subprocess.run(
            [self.python, *words], cwd=cwd or self.folder, env=clean(), text=True,
            capture_output=True, timeout=timeout,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)[:200]}:\n{done.stdout}{done.stderr}")
        return done.stdout


def clean() -> dict[str, str]:
    """The environment of a program that is to see nothing of this checkout."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}


def build(source: Path, folder: Path) -> Path:
    """The wheel of a checkout."""
    command = ["uv", "build", "--quiet", "--wheel", "--out-dir", folder, source]
    subprocess.run(command, check=True, env=clean())
    (wheel,) = folder.glob("*.whl")
    return wheel


def interpreter(python: str) -> str:
    """Where a Python such as 3.12 is, or "" where none is at hand; none is fetched."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    kept = sorted(pyenv.glob(f"{python}.*/bin/python"))
    if kept:
        return str(kept[-1])
    find = ["uv", "python", "find", "--no-project", "--no-python-downloads", python]
    done = subprocess.run(find, capture_output=True, text=True, env=clean())
    return done.stdout.strip() if done.returncode == 0 else ""


def install(
    folder: Path,
    wheel: Path | str,
    extras: str = "",
    python: str = sys.executable,
    resolution: str = "highest",
    beside: Sequence[str] = (),
    *,
    compiles: bool = True,
) -> Installed:
    """An empty environment that receives the wheel, or what a requirement names.

    Args:
      extras: separated by commas.
      python: the interpreter.
      resolution: of uv: highest, lowest-direct or lowest.
      beside: further packages.
      compiles: to bytecode, all modules and not only those that are imported one day.
    """
    venv = ["uv", "venv", "--quiet", "--no-python-downloads", "--python", python, folder]
    subprocess.run(venv, check=True, env=clean())
    new = Installed(folder, 0.0)
    what = [f"{wheel}[{extras}]" if extras else str(wheel)]
    if resolution == "lowest-direct":  # what the wheel asks for is not direct, the project's is
        what += ["-r", ROOT / "pyproject.toml"]
        what += [word for extra in extras.split(",") if extra for word in ("--extra", extra)]
    before = os.times()
    subprocess.run(
        [
            *("uv", "pip", "install", "--quiet", "--resolution", resolution),
            *(["--compile-bytecode"] if compiles else []),
            *("--python", new.python, *what, *beside),
        ],
        check=True,
        env=clean(),
    )
    after = os.times()
    user, system = (after[i] - before[i] for i in (2, 3))  # of processes that were waited for
    return new._replace(seconds=user + system)


def size(folder: Path) -> int:
    """Bytes of the files in a folder, bytecode included."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_texts(folder: Path) -> None:
    """What the commands of the walk read."""
    english = [f"The {noun} in {place} is {state}." for noun, place, state in WORDS]
    german = [f"{NOUNS[noun]} in {place} ist {STATES[state]}." for noun, place, state in WORDS]
    rows = [f"{a}\t{b}\n" for a, b in zip(english, german, strict=True)]
    files = {
        "texts.txt": "".join(f"{line}\n" for line in german),
        "other.txt": "".join(f"{line}\n" for line in english),
        "pairs.tsv": "".join(rows[9:]),
        "dev.tsv": "".join(rows[:9]),
        "several.tsv": "Hello\tGuten Tag\nHello\tSchönen guten Tag\n",
    }
    labels = [f"{i % 2}\t{line}\n" for i, line in enumerate(english)]
    for part in ("train.en", "dev.en", "test.en"):
        files[f"labels/kind.{part}.tsv"] = "".join(labels)
    files["labels/kind.test.de.tsv"] = "".join(f"{i % 2}\t{s}\n" for i, s in enumerate(german))
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")


NOUNS = {"train": "Der Zug", "house": "Das Haus", "door": "Die Tür", "shop": "Der Laden"}
PLACES = ("Zürich", "Hamburg", "Leipzig", "Köln", "Bremen")
STATES = {"late": "spät", "red": "rot", "old": "alt", "open": "offen", "big": "groß", "new": "neu"}
WORDS = list(itertools.product(NOUNS, PLACES, STATES))


def walk(where: Installed, folder: Path, names: Sequence[str] = tuple(WALK)) -> dict[str, str]:
    """What became of every command: "" where it works, else the extras that it asks for.

    Raises:
      RuntimeError: it ended otherwise.
    """
    write_texts(folder)
    if "train" not in names or not _trains(where):  # a run from elsewhere, up to its checkpoints
        (folder / "run").mkdir(exist_ok=True)
        about = {"config": {"name": "light"}, "vocab_size": 9, "languages": ["en", "de"]}
        (folder / "run" / "config.json").write_text(json.dumps(about), "utf-8")
    boxed = str(where.packages() / "lightxling" / "boxed")
    found = {}
    for name in names:
        words = [boxed if word == "BOXED" else word for word in WALK[name].split()]
        outcome = _served if name == "serve" else _ended
        found[name] = outcome([where.programs / "lightxling", *words], folder)
    return found


def _trains(where: Installed) -> bool:
    return where.run("-c", FIND).strip() == "True"


def _ended(command: list, folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, env=clean(), capture_output=True, text=True, timeout=900
    )
    return _outcome(command, done.returncode, done.stdout + done.stderr)


def _outcome(command: list, code: int, said: str) -> str:
    lines = said.strip().splitlines()
    asked = re.search(
        r'needs .+: pip install "lightxling\[([\w,-]+)\]"$', lines[-1] if lines else ""
    )
    if code == 0:
        return ""
    if code == 2 and asked and len(lines) == 1:
        return asked[1]
    raise RuntimeError(f"{' '.join(map(str, command))} ended with {code}:\n{said}")


def _served(command: list, folder: Path) -> str:
    """The same of the server, which is asked once and stopped."""
    server = subprocess.Popen(
        command, cwd=folder, env=clean(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        first = server.stderr.readline()
        address = re.search(r"http://[\w.:]+", first)
        if address:
            with urllib.request.urlopen(f"{address[0]}/health", timeout=30) as answer:
                assert answer.status == 200
            server.send_signal(signal.SIGTERM)
        rest = server.communicate(timeout=60)
        return _outcome(command, server.returncode, first + "".join(rest))
    finally:
        server.kill()


def cold(where: Installed, times: int = 5) -> dict:
    """Processor seconds from nothing to a vector in new processes, the median, and what was
    imported."""
    found = [json.loads(where.run("-c", COLD)) for _ in range(times)]
    found.sort(key=lambda one: one["seconds"])
    return found[times // 2]


def row(wheel: Path, extras: str, walked: bool) -> str:
    with tempfile.TemporaryDirectory() as text:
        where = install(Path(text) / "env", wheel, extras)
        start, megabytes = cold(where)["seconds"], size(where.packages()) / 1e6
        works = "not tried"
        if walked:
            folder = Path(text) / "here"
            folder.mkdir()
            names = [name for name in WALK if not (name in MINUTES and "train" in extras)]
            found = walk(where, folder, names)
            works = ", ".join(f"`{name}`" for name, asked in found.items() if not asked)
    shown = f"`lightxling[{extras}]`" if extras else "`lightxling`"
    return f"| {shown} | {megabytes:,.0f} | {where.seconds:.1f} | {start:.2f} | {works} |"


def rival_row() -> str:
    """The same of the other program, which brings no encoder."""
    with tempfile.TemporaryDirectory() as text:
        where = install(Path(text) / "env", RIVAL)
        megabytes = size(where.packages()) / 1e6
        return f"| `{RIVAL}`, no model | {megabytes:,.0f} | {where.seconds:.1f} | | |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--write", type=Path)
    parser.add_argument("--source", type=Path, default=ROOT)
    parser.add_argument("--extras", nargs="+", default=EXTRAS, choices=EXTRAS)
    parser.add_argument("--sizes", nargs="+", default=LARGE, choices=EXTRAS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        wheel = build(asked.source, Path(text))
        print(f"the wheel has {wheel.stat().st_size / 1e6:.1f} MB")
        if asked.source != ROOT:
            print(row(wheel, "", walked=False))
            return
        lines = []
        for extras in asked.extras:
            lines.append(row(wheel, extras, walked=extras not in asked.sizes))
            print(lines[-1], flush=True)
        lines.append(rival_row())
        print(lines[-1])
    if asked.write:
        page = asked.write.read_text("utf-8")
        begin, end = "<!-- measured -->\n", "<!-- end -->"
        head, tail = page.split(begin)[0], page.split(end)[1]
        titles = "| install | MB | to install, s | first vector, s | works |"
        table = "\n".join([titles, "| --- | ---: | ---: | ---: | --- |", *lines])
        asked.write.write_text(f"{head}{begin}{table}\n{end}{tail}", "utf-8")


if __name__ == "__main__":
    main()
