"""What one run of a compiled program does, read from its text: products, bytes to and from memory,
and what its devices send each other.

XLA's own counts (`Compiled.cost_analysis`) take the body of a loop once, whatever its trips, and do
not know which arrays stay on the chip. The text says both: a loop ends where its counter reaches a
constant, and arrays in on-chip memory have `S(1)` in their layout. Arrays count as large as their
shapes say, without what tiles of 8 x 128 add to sides that do not fill them.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0}
"""Of a number whose type's name does not end in them."""

NOTHING = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota"}
"""Instructions that move no bytes."""

CONTROL = {"while", "conditional", "call"}
"""What happens in the computations that they name."""

SLICES = {"dynamic-slice", "gather", "slice"}
"""Read from their first operand what they return, and no more."""

UPDATES = {"dynamic-update-slice": 1, "scatter": 2}
"""Write into their first operand, in place, one of the others: which."""

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Instruction(NamedTuple):
    name: str
    shape: str
    code: str
    """Such as `fusion`."""
    operands: tuple[str, ...]
    rest: str
    """Its attributes; of a constant and a parameter, its value or number, then those."""
    root: bool


class Collective(NamedTuple):
    kind: str
    devices: int
    """That take part in one of its groups."""
    times: int
    """In one run of the program."""
    bytes: int
    """The whole array, each time."""

    @property
    def sent(self) -> float:
        """Bytes that each device sends in all, in a ring."""
        share = (self.devices - 1) / self.devices
        factor = {"all-reduce": 2 * share, "collective-permute": 1.0}.get(self.kind, share)
        return self.times * self.bytes * factor


class Work(NamedTuple):
    """Of one run of the program, on one device."""

    loops: float
    """Floating-point operations that XLA's count leaves out: of loops after the first trip."""
    bytes: int
    """Between the device's memory and its cores."""
    collectives: tuple[Collective, ...]


def bytes_of(shape: str, *, on_chip: bool = False) -> int:
    """Bytes of the arrays of a shape; `on_chip`: also of those that are never in main memory."""
    total = 0
    for kind, sizes, layout in re.findall(r"(?<!\w)(\w+)\[([\d,]*)\](\{[^}]*\})?", shape):
        if "S(1)" in layout and not on_chip:
            continue
        bits = BITS.get(kind) if kind in BITS else int(re.search(r"\d+", kind)[0])
        total += math.prod(map(int, filter(None, sizes.split(",")))) * bits // 8
    return total


def _until_closed(text: str) -> int:
    """Where the bracket closes with which the text begins."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return place
    return len(text)


def read(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """The computations of a program by name, and the name of the one that it begins with."""
    found, entry, current = {}, "", []
    for line in text.splitlines():
        if start := re.match(r"(ENTRY )?%([\w.-]+) \(.*\{$", line):
            current = found[start[2]] = []
            entry = start[2] if start[1] else entry
        elif one := re.match(r"\s+(ROOT )?%([\w.-]+) = (.*)", line):
            body = re.sub(r"/\*.*?\*/", "", one[3])
            end = _until_closed(body) + 1 if body[0] == "(" else body.index(" ")
            shape, body = body[:end], body[end:].strip()
            code, _, body = body.partition("(")
            inside = _until_closed("(" + body)
            operands = tuple(re.findall(r"%([\w.-]+)", body[: inside - 1]))
            rest = body if code in ("constant", "parameter") else body[inside:]
            current.append(Instruction(one[2], shape, code, operands, rest, bool(one[1])))
    return found, entry


def _named(one: Instruction, *attributes: str) -> list[str]:
    """Names of the computations that an instruction has as attributes."""
    named = "|".join(attributes)
    found = re.findall(rf"\b(?:{named})=(?:%([\w.-]+)|\{{([^}}]*)\}})", one.rest)
    return [name for single, several in found for name in re.findall(r"[\w.-]+", single or several)]


def trips(condition: list[Instruction]) -> int:
    """How often a loop with this condition runs, whose counter begins at 0; 1 where it is not told.

    The condition compares the counter with a constant, here or in a fusion.
    """
    counts = [
        int(number[0])
        for one in condition
        if one.code == "constant" and one.shape.startswith("s32[]")
        if (number := re.match(r"\d+", one.rest))
    ]
    return max(counts, default=1)


def _reads(fused: list[Instruction], number: int, whole: int) -> int:
    """Bytes that a fusion reads of one operand."""
    mark = f"{number})"
    sources = {one.name for one in fused if one.code == "parameter" and one.rest.startswith(mark)}
    reads = 0
    for one in fused:
        if not sources & set(one.operands):
            continue
        if one.code == "bitcast":
            sources.add(one.name)
        elif one.code in SLICES and one.operands[0] in sources:
            reads += bytes_of(one.shape, on_chip=True)
        elif not (one.code in UPDATES and one.operands[0] in sources):
            return whole
    return min(reads, whole)


def _written(fused: list[Instruction], whole: int) -> int:
    """Bytes that a fusion writes."""
    by_name = {one.name: one for one in fused}
    root = next((one for one in fused if one.root), None)
    while root and root.code == "bitcast":
        root = by_name.get(root.operands[0])
    if root and root.code in UPDATES:
        return min(bytes_of(by_name[root.operands[UPDATES[root.code]]].shape, on_chip=True), whole)
    return whole


def traffic(one: Instruction, shapes: dict[str, str], programs: dict) -> int:
    """Bytes that an instruction moves between memory and cores."""
    if one.code in NOTHING | CONTROL or one.code.endswith("-done"):
        return 0
    sizes = [bytes_of(shapes.get(name, "")) for name in one.operands]
    written = bytes_of(one.shape)
    if one.code.endswith("-start"):  # returns its operands beside its result
        written = max(written - sum(sizes), 0)
    if one.code == "slice-start":
        operand = bytes_of(shapes[one.operands[0]], on_chip=True)
        sizes[0] = min(sizes[0], bytes_of(one.shape, on_chip=True) - operand)
    if one.code in SLICES:
        return min(sizes[0], written) + written + sum(sizes[1:])
    if one.code in UPDATES:
        return 2 * sizes[UPDATES[one.code]]
    if one.code == "fusion" and (called := _named(one, "calls")):
        fused = programs.get(called[0], [])
        sizes = [_reads(fused, number, size) for number, size in enumerate(sizes)]
        written = _written(fused, written)
    return sum(sizes) + written


def products(one: Instruction, shapes: dict[str, str]) -> float:
    """Floating-point operations of a matrix product; 0 for anything else."""
    if one.code not in ("dot", "convolution") or len(one.operands) < 2:
        return 0.0

    def dims(shape):
        return [int(n) for n in re.search(r"\[([\d,]*)\]", shape)[1].split(",") if n]

    right, out = dims(shapes[one.operands[1]]), math.prod(dims(one.shape))
    if one.code == "dot":
        axes = re.search(r"rhs_contracting_dims=\{([\d,]*)\}", one.rest)[1].split(",")
        return 2.0 * out * math.prod(right[int(axis)] for axis in axes if axis)
    labels = re.search(r"dim_labels=\w+_(\w+)->", one.rest)[1]
    return 2.0 * out * math.prod(right) / right[labels.index("o")]


def _devices(rest: str, count: int) -> int:
    """How many devices a group of a collective has."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return len(listed[1].split(","))
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(iota[1])
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", rest):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", mesh[2]))
    return count


def _weights(programs: dict, entry: str) -> Iterator[tuple[str, int, bool]]:
    """Name, how often it runs, and whether it stands in a fusion, of every computation in use."""
    waiting = [(entry, 1, False)]
    while waiting:
        name, times, fused = waiting.pop()
        yield name, times, fused
        for one in programs.get(name, []):
            if one.code == "while":
                count = times * trips(programs[_named(one, "condition")[0]])
                waiting += [(body, count, fused) for body in _named(one, "body")]
            else:
                branches = _named(one, "branch_computations", "true_computation")
                branches += _named(one, "false_computation")
                waiting += [(branch, times, fused) for branch in branches]
                inner = fused or one.code not in ("call", "async-start")
                waiting += [(called, times, inner) for called in _named(one, "calls", "to_apply")]


def measure(text: str, devices: int) -> Work:
    """What one run of the program does on one of `devices` devices.

    Args:
      text: of the compiled program (`Compiled.as_text()`), in which shapes are those of one device.
    """
    programs, entry = read(text)
    loops, moved, collectives, seen = 0.0, 0, [], set()
    for name, times, fused in _weights(programs, entry):
        shapes = {one.name: one.shape for one in programs.get(name, [])}
        for one in programs.get(name, []):
            loops += (times - 1) * products(one, shapes)
            if not fused:
                moved += times * traffic(one, shapes, programs)
            kind = next((kind for kind in COLLECTIVES if one.code in (kind, f"{kind}-start")), None)
            channel = re.search(r"channel_id=(\d+)", one.rest)
            if kind and not (
                channel and channel[1] in seen
            ):  # parts of one stand in several fusions
                seen.add(channel[1] if channel else one.name)
                whole = max(
                    bytes_of(one.shape, on_chip=True),
                    sum(bytes_of(shapes.get(o, ""), on_chip=True) for o in one.operands),
                )
                collectives.append(Collective(kind, _devices(one.rest, devices), times, whole))
    return Work(loops, moved, tuple(collectives))
