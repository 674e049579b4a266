"""Kills commands at random moments, again and again: is anything lost or half there afterwards?

    python tools/kill_commands.py
    python tools/kill_commands.py --kills 50 --commands encode export search

Every command is forked from a process that has imported what it needs, so that kills (kill -9) fall
on its work, and is killed until so many kills have hit it: half of them at a moment drawn from its
whole time, half before a call that makes, renames, syncs or removes a file. Before every second one
there is no output, before the others there is that of another text. Afterwards it must be as it was
before, or whole: equal, byte for byte, to what the command writes when it is left alone. What was
there and is no more counts as lost, anything else as wrong. A last run, not killed, has to end
well, with that output. Hidden files are counted that kills left, and that are still there after the
last run. With anything lost or wrong, or too few hits, the exit code is 1.
"""

import argparse
import collections
import dataclasses
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")  # read when numpy is imported

BOXED = str(Path(__file__).parent.parent / "lightxling" / "boxed")
CALLS = ("mkdir", "rename", "replace", "fsync", "unlink", "rmdir", "open")
"""Calls of the system around which something may be half there."""


@dataclasses.dataclass(frozen=True)
class Command:
    """
    Attributes:
      arguments: of `lightxling`, in a folder with some text; what is written is named `out*`.
      depth: what gets its name at once: the output itself, or (2) each thing in it.
      replaces: whether it may be called where an output is.
      lines: of the text, so many that the work takes about a second.
    """

    arguments: Sequence[str]
    depth: int = 1
    replaces: bool = True
    lines: int = 2000


PREPARE = ("prepare", "light", "--corpus.sources", "en-fr=pairs.tsv", "--corpus.store", "out")
COMMANDS = {
    "encode": Command(("encode", BOXED, "en.txt", "-o", "out.npy")),
    "mine": Command(("mine", BOXED, "en.txt", "fr.txt", "-o", "out.tsv"), lines=1000),
    "search": Command(("search", BOXED, "en.txt", "--query", "a house", "--index", "out")),
    "export": Command(
        ("export", "start", "--format", "safetensors", "--overwrite", "True", "-o", "out")
    ),
    "prepare": Command((*PREPARE, "--tokenizer.vocab-size", "300"), depth=2),
    "evaluate": Command(
        (
            *("evaluate", BOXED, "--task", "retrieval", "ranking", "--output", "out"),
            *("--data", "en-fr=pairs.tsv", "en-de=pairs.tsv"),
        ),
        depth=3,
        lines=500,
    ),
    "specialise": Command(
        ("specialise", BOXED, "en.txt", "--language", "en", "-o", "out"), replaces=False
    ),
    "paraphrases": Command(("paraphrases", "en-fr=pairs.tsv", "-o", "out"), depth=2),
    "compare": Command(("compare", "start")),
    "report": Command(("report", "run", "--output", "out.html")),
}


def write_text(folder: Path, lines: int, seed: int) -> None:
    rng = random.Random(seed)
    folder.mkdir()
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(500)]
    texts = [" ".join(rng.choices(words, k=rng.randint(3, 12))) for _ in range(lines)]
    (folder / "en.txt").write_text("\n".join(texts) + "\n")
    (folder / "fr.txt").write_text("\n".join(f"{text} ba" for text in texts) + "\n")
    pairs = [f"{text}\t{text} {end}\n" for text in texts for end in ("ba", "di")]
    (folder / "pairs.tsv").write_text("".join(pairs))
    shutil.copytree(BOXED, folder / "start")
    about = json.loads((folder / "start" / "config.json").read_text())
    about["scores"] = {"seed": seed}
    (folder / "start" / "config.json").write_text(json.dumps(about))
    write_run(folder / "run", seed)


def write_run(folder: Path, seed: int) -> None:
    """What a report reads of a run."""
    from lightxling.config.files import to_dict
    from lightxling.config.schema import Config

    folder.mkdir()
    about = {"config": to_dict(Config()), "languages": ["en", "fr"], "vocab_size": 300}
    (folder / "config.json").write_text(json.dumps(about))
    steps = [{"step": n, "pairs": 16 * n, "loss": seed + 9 / n} for n in range(1, 20_000)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))


def is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def left_behind(folder: Path) -> int:
    """Hidden files and folders in a folder, without the locks of runs and stores, which stay: who
    removed one could let in two."""
    names = (path.name for path in folder.rglob(".*"))
    return sum(not re.fullmatch(r"(\.[0-9a-f]{12})?\.lock", name) for name in names)


def digests(path: Path, name: str) -> dict[str, str]:
    """sha256 of a file by its name; of results, those of every unit, without its seconds."""
    content = path.read_bytes()
    if not content.startswith(b'{\n  "task"'):
        return {name: hashlib.sha256(content).hexdigest()}
    units = json.loads(content)["results"]
    told = {unit: {**one, "seconds": None} for unit, one in units.items()}
    return {
        f"{name}/{unit}": hashlib.sha256(repr(one).encode()).hexdigest()
        for unit, one in told.items()
    }


def content(folder: Path, depth: int) -> dict[str, dict[str, str]]:
    """Hashes of what a command wrote, of the files of each thing that gets its name at once.

    Folders are looked at as whoever opens them does, which brings back one that was put aside.
    """
    from lightxling.base.files import recover

    recover(folder / "out")
    found = collections.defaultdict(dict)
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if path.is_file() and inner.parts[0].startswith("out") and not is_hidden(path, folder):
            for name, value in digests(path, str(inner)).items():
                found["/".join(name.split("/")[:depth])][name] = value
    return dict(found)


def fork(folder: Path, work: Callable[[], int]) -> int:
    """Forks a process that does some work in a folder and prints to the file `log` there; returns
    its number."""
    if child := os.fork():
        return child
    status = 1
    try:
        os.chdir(folder)
        with open("log", "w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        status = work()
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def start(folder: Path, arguments: Sequence[str], at_call: int = 0) -> int:
    """Forks a process that runs a command; returns its number.

    Args:
      at_call: it kills itself before so manieth of `CALLS`; 0: not. How many there were stands in
        the file `calls`, if it comes to its end.
    """
    calls = 0

    def counted(real):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == at_call:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    def work() -> int:
        from lightxling.cli import main

        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        status = main(list(arguments))
        Path("calls").write_text(str(calls))
        return status

    return fork(folder, work)


def run(folder: Path, arguments: Sequence[str]) -> tuple[float, int]:
    """Runs a command to its end; the seconds that it took, and how many `CALLS`."""
    began = time.perf_counter()
    if os.waitpid(start(folder, arguments), 0)[1]:
        raise SystemExit(f"{arguments[0]} fails: {(folder / 'log').read_text()}")
    return time.perf_counter() - began, int((folder / "calls").read_text())


def kill(folder: Path, arguments: Sequence[str], seconds: float | None, at_call: int = 0) -> bool:
    """Whether the command was still at work when it was killed, after some seconds or at a call."""
    child = start(folder, arguments, at_call)
    if seconds is not None:
        time.sleep(seconds)
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            return False
        os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def clear(folder: Path) -> None:
    for path in folder.glob("out*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def judge(found: dict, before: dict, expected: dict) -> str:
    """What became of an output."""
    if any(name not in found for name in before):
        return "lost"
    if any(files not in (before.get(name), expected.get(name)) for name, files in found.items()):
        return "wrong"
    if found == before:
        return "as before"
    return "new" if expected.items() <= found.items() else "some new"


def torture(name: str, kills: int) -> bool:
    """Prints a row; whether all was well."""
    command, draw = COMMANDS[name], random.Random(name)
    with tempfile.TemporaryDirectory() as place:
        folder, other = Path(place, "killed"), Path(place, "other")
        write_text(folder, command.lines, seed=1)
        run(folder, command.arguments)
        folder.rename(other)
        write_text(folder, command.lines, seed=0)
        run(folder, command.arguments)  # reads what the others find read
        clear(folder)
        seconds, calls = run(folder, command.arguments)
        expected = content(folder, command.depth)
        counts, tries = collections.Counter(), 0
        while (hit := counts.total()) < kills and tries < 4 * kills:
            tries += 1
            clear(folder)
            if hit % 2 and command.replaces:
                for path in other.glob("out*"):
                    (shutil.copytree if path.is_dir() else shutil.copy2)(path, folder / path.name)
            before = content(folder, command.depth)
            aim = (
                (None, draw.randint(1, calls))
                if calls and hit % 4 > 1
                else (draw.uniform(0, seconds),)
            )
            if kill(folder, command.arguments, *aim):
                counts[judge(content(folder, command.depth), before, expected)] += 1
        left = left_behind(folder)
        clear(folder)
        run(folder, command.arguments)
        is_same = content(folder, command.depth) == expected
        after = left_behind(folder)
    kinds = ("as before", "some new", "new", "lost", "wrong")
    cells = [name, f"{hit} of {tries}", *(counts[kind] for kind in kinds)]
    print("|", " | ".join(map(str, cells)), f"| {'equal' if is_same else 'DIFFERS'}", end=" ")
    print(f"| {left} | {after} |", flush=True)
    return is_same and hit == kills and not counts["lost"] and not counts["wrong"]


def campaign(
    about: str,
    torture: Callable[[str, int], bool],
    commands: Iterable[str],
    columns: str,
    argv: Sequence[str] | None,
) -> int:
    """The table of the commands that are asked for, a row each; 1 if not all was well.

    Args:
      torture: kills a command so often, prints its row, and says whether all was well.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--commands", nargs="+", choices=commands, default=list(commands))
    args = parser.parse_args(argv)
    titles = columns.split(", ")
    print(f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}", flush=True)
    wells = [torture(name, args.kills) for name in args.commands]
    return int(not all(wells))


def main(argv: list[str] | None = None) -> int:
    import lightxling.corpus.prepare
    import lightxling.encode.mine_files
    import lightxling.encode.search
    import lightxling.evaluate.compare
    import lightxling.evaluate.report
    import lightxling.evaluate.run
    import lightxling.export
    import lightxling.train.frozen
    import lightxling.train.specialise  # noqa: F401

    columns = "command, hit of tries, as before, some new, new, lost, wrong, last run, hidden left"
    return campaign(__doc__, torture, COMMANDS, f"{columns}, after the end", argv)


if __name__ == "__main__":
    sys.exit(main())
