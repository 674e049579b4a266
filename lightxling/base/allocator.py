"""How the C library's allocator is set for training on CPUs.

XLA asks for the temporaries of every step again, hundreds of megabytes at once. As glibc comes,
each of them is mapped, zeroed page by page and unmapped, which takes a fifth of a step of `light`.
Kept in the heap and in huge pages they cost next to nothing.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Mapping

TUNABLES = "GLIBC_TUNABLES"
SETTINGS = ":".join(
    (
        "glibc.malloc.hugetlb=1",  # ask for transparent huge pages
        "glibc.malloc.mmap_max=0",  # large blocks come from the heap too
        f"glibc.malloc.trim_threshold={1 << 40}",  # and stay there when they are freed
    )
)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables with the allocator's settings, unless some are there already."""
    return {TUNABLES: SETTINGS, **variables}


def restart() -> None:
    """Starts this program again with the settings, which glibc reads when a process begins.

    Does nothing where they are set (to whatever) or the C library is another one.
    """
    try:
        is_glibc = sys.platform == "linux" and os.confstr("CS_GNU_LIBC_VERSION")
    except (OSError, ValueError):
        return
    if is_glibc and TUNABLES not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment(os.environ))


def trim() -> None:
    """Gives the pages of freed memory back, such as what the compiler needed."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
