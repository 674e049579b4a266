"""A training process starts with an allocator that keeps large blocks."""

import json
import os
import subprocess
import sys

import pytest

from lightxling.base.allocator import SETTINGS, TUNABLES, environment

glibc = pytest.mark.skipif(
    sys.platform != "linux" or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""),
    reason="the settings are those of glibc",
)

RESTARTED = """
import json, os, sys
starts = int(os.environ.get("STARTS", 0)) + 1
os.environ["STARTS"] = str(starts)
from lightxling.base.allocator import restart
restart()
print(json.dumps([starts, os.environ["GLIBC_TUNABLES"], sys.argv[1:], sys.flags.utf8_mode]))
"""

TRIMMED = """
import ctypes, os
from lightxling.base.allocator import trim
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
blocks = [libc.malloc(1 << 16) for _ in range(3200)]
for block in blocks:
    ctypes.memset(block, 1, 1 << 16)
last = libc.malloc(1 << 16)  # keeps the heap from shrinking by itself
for block in blocks:
    libc.free(block)
full = resident()
trim()
print(full - resident())
"""


def run(script: str, *options: str, **variables: str) -> str:
    env = {name: value for name, value in os.environ.items() if name != TUNABLES}
    command = [sys.executable, *options, "-c", script, "an argument", "--flag"]
    return subprocess.run(
        command, env=env | variables, capture_output=True, text=True, check=True
    ).stdout


@glibc
def test_a_process_restarts_once_with_its_own_command_line():
    found = json.loads(run(RESTARTED, "-X", "utf8=1"))
    assert found == [2, SETTINGS, ["an argument", "--flag"], 1]


@glibc
def test_settings_of_the_person_stay():
    own = "glibc.malloc.arena_max=1"
    starts, settings, *_ = json.loads(run(RESTARTED, GLIBC_TUNABLES=own))
    assert (starts, settings) == (1, own)
    assert environment({TUNABLES: own, "A": "b"}) == {TUNABLES: own, "A": "b"}


@glibc
def test_trimming_gives_freed_memory_back():
    assert int(run(TRIMMED)) > 150 << 20  # of the 200 MiB that were freed


@glibc
def test_training_restarts_and_other_commands_do_not():
    show = "import sys; from lightxling.base import allocator; from lightxling import cli\n"
    show += "allocator.restart = lambda: print('restarted')\nsys.exit(cli.script())"
    for argv, restarted in ((["train", "--help"], True), (["--help"], False), ([], False)):
        done = subprocess.run([sys.executable, "-c", show, *argv], capture_output=True, text=True)
        assert (done.returncode, done.stdout.startswith("restarted")) == (0, restarted), done.stderr
