"""Kills commands at random moments, again and again: is anything half there afterwards?

    python tools/kill_commands.py
    python tools/kill_commands.py --kills 50 --commands encode export search

Every command is run once as it is, to learn how long it takes and what it writes, and then killed
(kill -9) so many times at a moment drawn from its whole time, always in the same folder. After a
kill, its output has to be absent or whole: equal to that of the run that was not killed. A last run
that is not killed has to end well, with that output. Counts are printed, hidden files that are
left behind too; with anything wrong, the exit code is 1.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

BOXED = str(Path(__file__).parent.parent / "lightxling" / "boxed")
COMMANDS = {
    "encode": ("encode", BOXED, "en.txt", "-o", "out.npy"),
    "mine": ("mine", BOXED, "en.txt", "fr.txt", "-o", "out.tsv"),
    "search": ("search", BOXED, "en.txt", "--query", "a house", "--index", "out"),
    "export": ("export", BOXED, "--format", "safetensors", "--overwrite", "True", "-o", "out"),
}
"""Commands and their options, in a folder with some text; all write `out*`."""
QUIET = {"origin.json", "config.json", "README.md"}
"""Files that may name a time."""


def write_text(folder: Path) -> None:
    from lightxling.corpus import everyday

    rng, words = random.Random(0), everyday.__doc__.split()
    lines = [" ".join(rng.choices(words, k=rng.randint(3, 12))) for _ in range(500)]
    (folder / "en.txt").write_text("\n".join(lines) + "\n")
    (folder / "fr.txt").write_text("\n".join(line.upper() for line in lines) + "\n")


def content(folder: Path) -> dict[str, str]:
    """Hashes of what a command wrote."""
    files = (p for top in folder.glob("out*") for p in ([top] if top.is_file() else top.rglob("*")))
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.is_file() and path.name not in QUIET and "/." not in str(path)
    }


def start(folder: Path, arguments: Sequence[str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "lightxling", *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, start_new_session=True, **quiet)


def torture(name: str, kills: int) -> bool:
    """Prints a row; whether all was well."""
    arguments, draw = COMMANDS[name], random.Random(name)
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as killed:
        for folder in (whole, killed):
            write_text(Path(folder))
        began = time.perf_counter()
        if start(Path(whole), arguments).wait():
            print(f"| {name} | fails even when it is not killed |")
            return False
        seconds, expected = time.perf_counter() - began, content(Path(whole))
        folder, bad, hit = Path(killed), 0, 0
        for _ in range(kills):
            process = start(folder, arguments)
            time.sleep(draw.uniform(0.3, 1) * seconds)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                hit += 1
            process.wait()
            found = content(folder)
            bad += any(found[path] != expected.get(path) for path in found)
        left = sum(path.name.startswith(".") for path in folder.rglob("*"))
        is_well = start(folder, arguments).wait() == 0 and content(folder) == expected
        after = sum(path.name.startswith(".") for path in folder.rglob("*"))
    print(f"| {name} | {hit} | {bad} | {'equal' if is_well else 'DIFFERS'} | {left}, {after} |")
    sys.stdout.flush()
    return is_well and not bad


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    args = parser.parse_args(argv)
    print("| command | kills | half outputs | last run | hidden left, after the end |")
    print("| --- | ---: | ---: | --- | ---: |")
    wells = [torture(name, args.kills) for name in args.commands]
    return int(not all(wells))


if __name__ == "__main__":
    sys.exit(main())
