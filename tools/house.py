"""Prints the house: its rooms, the imports between them, circles, and what is long.

    python tools/house.py [FOLDER]

FOLDER holds the package `lightxling`, by default this checkout. A room is a folder of the package,
or a module at its top. Imports inside functions count as well.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOMS = (
    "base",
    "config",
    "corpus",
    "model",
    "objectives",
    "saved",
    "encode",
    "evaluate",
    "train",
    "export",
    "cli_options",
    "completion",
    "shell",
    "cli",
)
"""From the ground up: a room imports from those that stand before it."""


class Import(NamedTuple):
    """One module that imports another; `lightxling.` is left out of both names."""

    importer: str
    imported: str
    line: int


class House(NamedTuple):
    files: dict[str, Path]
    """By module, without `lightxling.`; the package itself is ""."""
    trees: dict[str, ast.Module]
    imports: list[Import]
    """Of modules of the package, each line once."""


def read_house(folder: Path) -> House:
    """The package `lightxling` in a folder, from its source: nothing is run."""
    files = {}
    for path in sorted((folder / "lightxling").rglob("*.py")):
        parts = path.relative_to(folder / "lightxling").with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    trees = {module: ast.parse(path.read_text("utf-8")) for module, path in files.items()}
    imports = [
        Import(module, other, line)
        for module, tree in trees.items()
        for other, line in sorted(set(_own_imports(tree, files)))
        if other != module
    ]
    return House(files, trees, imports)


def imported_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every absolute import, also in functions: the dotted name and its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def _own_imports(tree: ast.Module, files: dict[str, Path]) -> Iterator[tuple[str, int]]:
    for name, line in imported_names(tree):
        package, _, module = name.partition(".")
        if package == "lightxling":
            yield module if module in files else module.rpartition(".")[0], line


def room_of(module: str) -> str:
    return module.partition(".")[0]


def arrows(house: House) -> dict[tuple[str, str], int]:
    """(room, room that it imports) -> how many imports of one file by another."""
    pairs = {(one.importer, one.imported) for one in house.imports}
    counts: dict[tuple[str, str], int] = {}
    for importer, imported in pairs:
        key = room_of(importer), room_of(imported)
        if key[0] != key[1]:
            counts[key] = counts.get(key, 0) + 1
    return counts


def imports_back(house: House) -> list[str]:
    """Imports from a room of one that stands above it, as PATH:LINE texts."""
    back = []
    for one in house.imports:
        rooms = [room_of(one.importer), room_of(one.imported)]
        if all(room in ROOMS for room in rooms) and ROOMS.index(rooms[0]) < ROOMS.index(rooms[1]):
            back.append(f"{house.files[one.importer]}:{one.line} imports {one.imported}")
    return back


def circles(house: House) -> list[list[str]]:
    """Groups of modules that reach each other by imports (Tarjan's components of two and more)."""
    edges: dict[str, set[str]] = {module: set() for module in house.files}
    for one in house.imports:
        edges[one.importer].add(one.imported)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in edges[module]:
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            start = stack.index(module)
            if len(stack) - start > 1:
                found.append(sorted(stack[start:]))
            del stack[start:]

    for module in edges:
        if module not in index:
            visit(module)
    return found


def functions(house: House) -> list[tuple[int, int, str]]:
    """(lines, parameters, PATH:LINE NAME) of every function, the longest first."""
    rows = []
    for module, tree in house.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = node.args
                parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs]
                count = sum(one.arg not in ("self", "cls") for one in parameters)
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                rows.append((lines, count, f"{house.files[module]}:{node.lineno} {node.name}"))
    return sorted(rows, reverse=True)


def line_counts(house: House) -> dict[str, int]:
    """Lines of every file, by its path."""
    return {str(path): len(path.read_text("utf-8").splitlines()) for path in house.files.values()}


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent
    house = read_house(folder)
    counts, between = line_counts(house), arrows(house)
    rooms = sorted({room_of(module) for module in house.files} - {""})
    rooms.sort(key=lambda room: ROOMS.index(room) if room in ROOMS else len(ROOMS))
    for room in rooms:
        own = [str(path) for module, path in house.files.items() if room_of(module) == room]
        uses = [f"{to} {n}" for (start, to), n in sorted(between.items()) if start == room and to]
        print(
            f"{room:12} {len(own):3} files {sum(map(counts.get, own)):6,} lines  {', '.join(uses)}"
        )
    whole = {pair: n for pair, n in between.items() if all(pair)}
    folders = {room_of(module) for module in house.files if "." in module}
    print(f"{len(folders)} rooms and {len(rooms) - len(folders)} modules at the top")
    print(f"{len(whole)} arrows between them")
    print(f"{sum(whole.values())} imports of files across them")
    for title, found in {
        "circles": [", ".join(circle) for circle in circles(house)],
        "imports that go back": imports_back(house),
    }.items():
        print("\n  ".join([f"{len(found)} {title}", *found]))
    print(f"{sum(counts.values()):,} lines; the longest files:")
    for path, lines in sorted(counts.items(), key=lambda row: -row[1])[:3]:
        print(f"  {lines} {path}")
    every = functions(house)
    print(f"{len(every):,} functions; the longest:")
    for lines, _, place in every[:3]:
        print(f"  {lines} {place}")
    print(f"{sum(count > 8 for _, count, _ in every)} functions with more than 8 parameters")


if __name__ == "__main__":
    main()
