"""Replaces a folder and a file over and over, killed before every call of the system in turn.

    python replaced.py FOLDER

Every replacement, and every look and second replacement after it, is a process of its own. Prints
how often one was killed; an assertion fails where something was lost.
"""

import os
import signal
import sys
from pathlib import Path

from lightxling.base import files

CALLS = ("mkdir", "rename", "replace", "fsync", "unlink", "rmdir", "open")


def write(place: Path, content: str) -> None:
    with files.atomic_folder(place / "exp1") as folder:
        (folder / "inner").mkdir()
        for name in ("a", "inner/b"):
            (folder / name).write_text(content)
        files.write_json(folder / "config.json", {"content": content})
    with files.atomic(place / "vectors.npy") as temporary:
        temporary.write_text(content)


def contents(place: Path) -> set[str]:
    files.recover(place / "exp1")
    names = ("exp1/a", "exp1/inner/b")
    described = files.read_json(place / "exp1" / "config.json")["content"]
    return {described, *((place / name).read_text() for name in names)}


def in_a_process(function, *arguments, kill_at: int | None = None) -> int:
    """How it ended, as `subprocess.Popen.returncode` has it."""
    if not (child := os.fork()):
        files._swept.clear()  # as in a process that has just begun
        calls = 0

        def counted(real):
            def call(*args, **kwargs):
                nonlocal calls
                calls += 1
                if calls == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            return call

        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        try:
            function(*arguments)
            os._exit(0)
        except BaseException as error:
            print(f"{function.__name__}: {error!r}", file=sys.stderr)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check(place: Path, allowed: set[str]) -> None:
    found = contents(place)
    assert len(found) == 1 and found <= allowed, found  # noqa: PT018


def main(place: Path) -> None:
    write(place, "first")
    names = sorted(path.name for path in place.iterdir())
    kills = 0
    while in_a_process(write, place, f"new {kills}", kill_at=kills + 1) == -signal.SIGKILL:
        before = "first" if not kills else f"again {kills - 1}"
        assert in_a_process(check, place, {before, f"new {kills}"}) == 0
        assert (place / "vectors.npy").read_text() in (before, f"new {kills}")
        assert in_a_process(write, place, f"again {kills}") == 0
        assert in_a_process(check, place, {f"again {kills}"}) == 0
        found = sorted(path.name for path in place.iterdir())
        assert found == names, found
        kills += 1
    print(kills)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
