"""What Windows does differently, tried on the machine at hand: modules that it has not are blocked,
files in use may not be replaced or removed, and text has an encoding that it is written in."""

import ast
import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest

from lightxling import Encoder
from lightxling.base import files
from lightxling.corpus.sources import Source
from lightxling.encode.search import Index

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lightxling"
POSIX = ("fcntl", "resource", "termios", "pwd", "grp", "tty", "pty", "readline")


def calls(path: Path):
    """Calls of open, read_text and write_text: the name, the line, and the arguments."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in ("open", "read_text", "write_text"):
                yield name, node


def text_mode(name: str, node: ast.Call) -> str:
    """r or w of a file of text, "" for bytes and for other functions called `open`."""
    if name != "open":
        return name[0]
    texts = [one.value for one in node.args if isinstance(one, ast.Constant)]
    mode = next((text for text in texts if re.fullmatch(r"[rwa]\+?b?\+?", str(text))), "")
    on_path = isinstance(node.func, ast.Attribute) and not mode
    return "" if "b" in mode or on_path else mode or "r"


def test_text_files_name_their_encoding_and_the_end_of_a_line():
    """By default they are those of the system: cp1252 and two characters on Windows."""
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        for name, node in calls(path):
            mode, given = text_mode(name, node), {one.arg for one in node.keywords}
            encoded = "encoding" in given or any(
                isinstance(one, ast.Constant) and one.value == "utf-8" for one in node.args
            )
            if mode and (not encoded or (mode in "wa" and "newline" not in given)):
                wrong.append(f"{path}:{node.lineno}")  # what has no `"utf-8"`, or no `newline`
    assert wrong == []


def test_what_other_systems_have_not_is_imported_nowhere_at_the_top():
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path}: {name}" for name in names if name in POSIX]
    assert found == []


BLOCKED = """
import builtins, os, signal, sys
real = builtins.__import__
def guarded(name, globals=None, *more, **named):
    asker = (globals or {}).get("__name__", "")
    if name in %r and asker.partition(".")[0] in ("lightxling", "filelock"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return real(name, globals, *more, **named)
builtins.__import__ = guarded
for name in ("fork", "getuid", "confstr"):
    delattr(os, name)
for name in ("SIGHUP", "SIGUSR1", "SIGKILL"):
    delattr(signal, name)
from lightxling.cli import main
for words in sys.argv[1:]:
    code = main(words.split())
    if code:
        sys.exit(f"{words}: {code}")
"""


def test_commands_run_without_what_only_posix_has(corpus, tmp_path):
    (tmp_path / "a.txt").write_text("Der Zug ist spät.\nWo ist der Bahnhof?\n", "utf-8")
    words = [
        "encode a.txt -o v.npy",
        "search a.txt --query train",
        f"prepare light --corpus.sources aa-bb={corpus} --tokenizer.vocab-size 200",
    ]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED % (POSIX,), *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert np.load(tmp_path / "v.npy").shape[0] == 2
    assert any((tmp_path / "stores").glob("*/manifest.json"))


def test_the_peak_of_memory_is_left_out_where_no_one_counts_it(monkeypatch):
    from lightxling.train.progress import peak_memory

    assert peak_memory() > 1 << 20
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory() is None


def in_use(path) -> bool:
    """Whether this process has a file, or one of a folder, open or mapped into memory."""
    target = os.path.realpath(path)
    held = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd.isdigit()
            and os.path.lexists(f"/proc/self/fd/{fd}")]  # fmt: skip
    maps = Path("/proc/self/maps").read_text("utf-8")
    return any(one == target or one.startswith(target + "/") for one in held) or target in maps


@pytest.fixture
def windows_files(monkeypatch):
    """Files as on Windows: what is in use is neither renamed, replaced nor removed, nothing is
    renamed to a name that is taken, and only what may be written to is synced."""

    def guard(name, refuses_taken):
        real = getattr(os, name)

        def guarded(path, *more, **named):
            if isinstance(path, (str, os.PathLike)) and not named.get("dir_fd"):
                taken = [*more[:1]] if refuses_taken is not None else []
                for one in (path, *taken):
                    if os.path.exists(one) and in_use(one):
                        raise PermissionError(13, "used by another process", str(one))
                if taken and os.path.exists(taken[0]) and (refuses_taken or os.path.isdir(path)):
                    raise FileExistsError(17, "exists", str(taken[0]))
            return real(path, *more, **named)

        monkeypatch.setattr(os, name, guarded)

    guard("rename", True)
    guard("replace", False)
    guard("unlink", None)
    guard("remove", None)
    fsync = os.fsync

    def writable(fd):
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(9, "Bad file descriptor")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", writable)


def test_the_simulation_refuses(windows_files, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"1" * 8)
    with open(path, "rb") as file:
        for change in (path.unlink, lambda: path.replace(tmp_path / "b"), lambda: os.fsync(file)):
            with pytest.raises(OSError, match=r"used by another|descriptor"):
                change()
    held = np.memmap(path, "u1", "r")
    with pytest.raises(PermissionError):
        path.unlink()
    del held
    path.unlink()


def test_files_are_replaced(windows_files, tmp_path):
    path = tmp_path / "a.json"
    for number in (1, 2):
        files.write_json(path, {"number": number})
        assert files.read_json(path) == {"number": number}
    assert path.read_bytes() == b'{\n  "number": 2\n}\n'
    for text in ("one", "two"):
        with files.atomic_folder(tmp_path / "folder") as folder:
            (folder / text).write_text(text)
        assert os.listdir(tmp_path / "folder") == [text]


def test_an_index_is_made_again_when_its_text_has_changed(windows_files, tmp_path):
    encoder, text = Encoder.load(), tmp_path / "a.txt"
    for lines in (["Der Zug ist spät."], ["Der Zug ist spät.", "Wo ist der Bahnhof?"]):
        text.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        index = Index.open(encoder, text)
        assert len(index.search("the station", k=9)[0]) == len(lines)
        del index  # in use, it could not be replaced, which `cannot write` says


def test_a_path_of_windows_is_a_source():
    path = PureWindowsPath("C:\\data", "news.en-fr.tsv")
    assert Source.parse(f"en-fr@2={path}").path == "C:\\data\\news.en-fr.tsv"


def test_what_the_output_cannot_show_is_written_in_ascii(tmp_path):
    (tmp_path / "a.txt").write_text("Vlak má hodinu zpoždění.\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "lightxling", "search", "a.txt", "--query", "The train is late."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=True,
    )
    assert "má hodinu zpoždění.".encode("cp1252", "backslashreplace") in done.stdout
