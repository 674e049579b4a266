"""How a command ends that a signal, a closed stream, a full memory or an odd path stops."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from lightxling import cli
from lightxling.base import lines
from lightxling.base.errors import UserError
from lightxling.base.files import lock
from lightxling.base.streams import Lasting

ENDED = """
import os, signal, sys, time
from pathlib import Path
from lightxling import cli
import lightxling.encode.encoder

sys.argv[1:] = ["encode", "-", "-o", "v.npy"]
for ignored, numbers in ((0, (15,)), (0, (1,)), (0, (2,)), (1, (1, 15))):
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.dup2(reading, 0)
        os.close(writing)
        if ignored:
            signal.signal(ignored, signal.SIG_IGN)
        os._exit(cli.script())
    os.write(writing, b"a house\\n")  # and no more: the work does not end by itself
    while not any(Path().glob(".v.npy.*.writing")):
        time.sleep(0.01)
    for number in numbers:
        os.kill(child, number)
        time.sleep(0.1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), os.listdir(), flush=True)
"""


def shell(command: str, folder: Path) -> subprocess.CompletedProcess:
    """Runs `lightxling ...` in a shell; what it prints comes back."""
    command = command.replace("lightxling", f"'{sys.executable}' -m lightxling")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_signals_end_the_work_and_remove_what_is_half_written(tmp_path):
    """SIGTERM, SIGHUP, Ctrl-C; and SIGHUP that is ignored, as under nohup, before SIGTERM."""
    (tmp_path / "v.npy").write_text("old")
    command = [sys.executable, "-c", ENDED]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.stdout.splitlines() == [f"{code} ['v.npy']" for code in (143, 129, 130, 143)]
    assert done.stderr.splitlines() == [
        "lightxling: ended by SIGTERM",
        "lightxling: ended by SIGHUP",
        "lightxling: interrupted",
        "lightxling: ended by SIGTERM",
    ]
    assert (tmp_path / "v.npy").read_text() == "old"


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("lightxling --help >&-", 2, "cannot write the output: Bad file descriptor"),
        ("lightxling encode - -o v.npy <&-", 2, "cannot read standard input: Bad file descriptor"),
        ("lightxling encode a.txt -o v.npy <&- >&- 2>/dev/full", 0, ""),
    ],
)
def test_standard_streams_that_are_closed_or_full(tmp_path, command, code, said):
    (tmp_path / "a.txt").write_text("a house\n")
    done = shell(command, tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert said in done.stderr
    assert (tmp_path / "v.npy").exists() == (not code)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENAMETOOLONG, "File name too long", "nnn"), "nnn: File name too long"),
        (PermissionError(errno.EACCES, "Permission denied", "a.tsv"), "a.tsv: Permission denied"),
        (MemoryError("Unable to allocate 9 TiB"), "memory is full (Unable to allocate 9 TiB)"),
    ],
)
def test_what_no_door_has_put_into_words_is_one_message(capsys, monkeypatch, error, said):
    def command(args: list[str]) -> None:
        raise error

    monkeypatch.setitem(cli.COMMANDS, "compare", command)
    assert cli.main(["compare", "x"]) == 2
    assert said in capsys.readouterr().err


def test_a_line_without_end_is_no_text(monkeypatch):
    """That of a device; a long one that ends is passed over."""
    monkeypatch.setattr(lines, "_LONGEST", 1 << 22)
    with pytest.raises(UserError, match=r"/dev/zero:1: a line of more than .* this is not text"):
        list(lines.sound_lines("/dev/zero", lines.Problems()))


def test_a_lock_that_cannot_be_made_is_not_waited_for():
    with pytest.raises(OSError, match="/proc/self"), lock(Path("/proc/self/x.lock"), lambda: None):
        pass


def test_messages_that_nobody_reads_do_not_end_the_work():
    """As of a run whose terminal or whose `tee` is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", buffering=1) as broken:
        with pytest.raises(BrokenPipeError):
            os.write(writing, b"x")
        console = Console(file=Lasting(broken))
        for _ in range(3):
            console.print("step 1")
    with open("/dev/full", "w") as full:
        stream = Lasting(full)
        stream.write("step 1")
        stream.flush()
