"""Every regular expression of the package, in steps: they grow with the text, not with its square.

The expressions are found in the source, so that a new one is tested without being named here. Steps
are counted by a backtracking matcher of its own, as time on a busy machine says little. It takes
the ways that Python's takes, in the same order, and finds the same.
"""

import ast
import collections
import importlib
import itertools
import re
import re._constants as codes
import re._parser as parser
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import lightxling
from lightxling.base.languages import CODE

PACKAGE = Path(lightxling.__file__).parent
AT_ONCE = ("match", "fullmatch")
OVER_AND_OVER = ("findall", "finditer", "sub", "subn", "split")
CALLS = ("compile", "search", *AT_ONCE, *OVER_AND_OVER)
GIVEN = {
    "own": "workdir",
    "dropped": "1|2",
    "named": "calls|body",
    "endings": r"\.tsv|\.gz",
    "block": "一-龥",
    "inside": "一-龥。",
    "first": r"\x1f\x8b",
    "form": types.SimpleNamespace(units=["tu", "body"]),
}
"""Examples of what an expression is put together from where it is used."""


@pytest.fixture(autouse=True)
def deep():
    """A step of the matcher below is some calls within those of the steps before it."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    yield
    sys.setrecursionlimit(before)


class Found(NamedTuple):
    place: str
    pattern: str | bytes
    flags: int
    ways: frozenset[str]
    """The methods by which it is used: one of `CALLS` but compile."""


class TooMany(Exception):
    pass


class Matcher:
    """A backtracking matcher that counts its steps: characters and places that it looks at.

    A matcher of a part takes a place and what comes after, which takes the place where the part
    ends. Both give the end of the whole, or None.
    """

    def __init__(self, pattern: str | bytes, flags: int, most: int = 300_000):
        self.flags, self.most, self.steps, self.text = flags, most, 0, ""
        self.parsed = parser.parse(pattern, flags)
        self.flags = self.parsed.state.flags
        self.whole = self.sequence(self.parsed)

    def step(self) -> None:
        self.steps += 1
        if self.steps > self.most:
            raise TooMany

    def sequence(self, parts) -> Callable:
        made = [self.part(code, value) for code, value in parts]

        def match(at, then, number=0):
            if number == len(made):
                return then(at)
            return made[number](at, lambda end: match(end, then, number + 1))

        return match

    def part(self, code, value) -> Callable:
        if code in (codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN):
            return self.character(code, value)
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            return self.repeat(code, *value)
        if code is codes.SUBPATTERN:
            return self.sequence(value[3])
        if code is codes.ATOMIC_GROUP:
            return self.atomic(self.sequence(value))
        if code is codes.BRANCH:
            branches = [self.sequence(one) for one in value[1]]

            def branch(at, then):
                self.step()
                ends = (one(at, then) for one in branches)
                return next((end for end in ends if end is not None), None)

            return branch
        if code in (codes.ASSERT, codes.ASSERT_NOT):
            return self.look(code, *value)
        if code is codes.AT:
            return self.place(value)
        raise NotImplementedError(f"teach this matcher {code}")

    def character(self, code, value) -> Callable:
        flags = self.flags & (re.IGNORECASE | re.DOTALL | re.ASCII | re.UNICODE)
        state = parser.State()
        state.flags, state.str = flags, ""
        alone = re._compiler.compile(parser.SubPattern(state, [(code, value)]))
        known = {}

        def match(at, then):
            self.step()
            if at >= len(self.text):
                return None
            one = self.text[at]
            if one not in known:
                known[one] = alone.match(one) is not None
            return then(at + 1) if known[one] else None

        return match

    def repeat(self, code, least, most, body) -> Callable:
        inner = self.sequence(body)

        def loop(at, then, count=0, last=-1):
            self.step()

            def more():
                if count >= most or (count > least and at == last):
                    return None
                return inner(at, lambda end: loop(end, then, count + 1, at))

            ways = [more, (lambda: then(at) if count >= least else None)]
            if code is codes.MIN_REPEAT:
                ways.reverse()
            first = ways[0]()
            return first if first is not None else ways[1]()

        return self.atomic(loop) if code is codes.POSSESSIVE_REPEAT else loop

    def atomic(self, inner) -> Callable:
        def match(at, then):
            end = inner(at, lambda end: end)
            return None if end is None else then(end)

        return match

    def look(self, code, direction, body) -> Callable:
        inner, width = self.sequence(body), body.getwidth()[0] if direction < 0 else 0

        def match(at, then):
            self.step()
            begin, end = at - width, None
            if begin >= 0:
                end = inner(begin, lambda end: end if direction > 0 or end == at else None)
            return then(at) if (end is None) == (code is codes.ASSERT_NOT) else None

        return match

    def place(self, code) -> Callable:
        state = parser.State()
        state.flags, state.str = self.flags & (re.MULTILINE | re.ASCII | re.UNICODE), ""
        alone = re._compiler.compile(parser.SubPattern(state, [(codes.AT, code)]))

        def match(at, then):
            self.step()
            return None if alone.match(self.text, at) is None else then(at)

        return match

    def spans(self, text: str, way: str) -> list[tuple[int, int]]:
        """What a method of an expression finds."""
        self.text, self.steps, found, at = text, 0, [], 0
        while at <= len(text):
            then = (lambda end: end if end == len(text) else None) if way == "fullmatch" else None
            end = self.whole(at, then or (lambda end: end))
            if end is not None:
                found.append((at, end))
                if way not in OVER_AND_OVER:
                    break
            if way in AT_ONCE:
                break
            at = at + 1 if end in (None, at) else end
        return found


def methods(tree: ast.AST) -> dict[str, set[str]]:
    """The methods of expressions that are used in a module, by the name of what has them."""
    used = collections.defaultdict(set)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in CALLS:
            owner = node.value
            used[owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")].add(
                node.attr
            )
    return used


def all_methods() -> dict[str, set[str]]:
    """Those of all modules."""
    whole = collections.defaultdict(set)
    for file in PACKAGE.rglob("*.py"):
        for name, ways in methods(ast.parse(file.read_text("utf-8"))).items():
            whole[name] |= ways
    return whole


USED = all_methods()


def expressions(file: Path) -> list[Found]:
    """Those of a module: calls of `re`, and what is compiled, with the methods it is used by."""
    tree = ast.parse(file.read_text("utf-8"))
    name = ".".join(("lightxling", *file.relative_to(PACKAGE).with_suffix("").parts))
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "re"
        and node.func.attr in CALLS
    ]
    if not calls:
        return []
    module = importlib.import_module(name)
    names = {
        id(one.value): target.id if isinstance(target, ast.Name) else target.attr
        for one in ast.walk(tree)
        if isinstance(one, ast.Assign)
        for target in one.targets
        if isinstance(target, ast.Name | ast.Attribute)
    }
    found = []
    for call in calls:
        place = f"{file.relative_to(PACKAGE)}:{call.lineno}"
        ways = {call.func.attr}
        if ways == {"compile"}:
            name = names.get(id(call))  # or else it is in a table, and used as others here are
            ways = USED[name] if name in USED else set().union(*methods(tree).values())
            ways = ways & ({*CALLS} if name in USED else {*AT_ONCE}) - {"compile"} or {"search"}
        flags = [one for one in call.args[1:] if "re." in ast.unparse(one)]
        flags += [one.value for one in call.keywords if one.arg == "flags"]
        value, options = (value_of(one, module) for one in (call.args[0], flags and flags[0]))
        found.append(Found(place, value, int(options or 0), frozenset(ways)))
    known, used = {one.pattern for one in found}, set().union(*methods(tree).values())
    for pattern in in_tables(list(vars(module).values()), set()):
        if pattern.pattern not in known:
            known.add(pattern.pattern)
            ways = used & {*AT_ONCE, "search"} or {"search"}
            place = f"{file.relative_to(PACKAGE)}: {pattern.pattern!r:.30}"
            found.append(Found(place, pattern.pattern, pattern.flags, frozenset(ways)))
    return found


def in_tables(value: Any, seen: set[int]) -> Iterator[re.Pattern]:
    """The expressions in what a module holds, which its functions may have put together."""
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict | list | tuple) and id(value) not in seen:
        seen.add(id(value))
        for one in value.values() if isinstance(value, dict) else value:
            yield from in_tables(one, seen)


def value_of(node, module):
    if not node:
        return None
    try:
        return eval(compile(ast.Expression(node), "<pattern>", "eval"), {**GIVEN, **vars(module)})
    except NameError as error:
        raise AssertionError(
            f"{ast.unparse(node)} of {module.__name__} is put together from {error.name}: give an "
            "example in GIVEN"
        ) from None


ALL = [one for file in sorted(PACKAGE.rglob("*.py")) for one in expressions(file)]


def shortest(parts) -> str:
    """A text that a part of an expression takes, as short as it can be."""
    text = ""
    for code, value in parts:
        if code in (codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN):
            text += one_of(code, value)
        elif code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            text += shortest(value[2]) * value[0]
        elif code is codes.SUBPATTERN:
            text += shortest(value[3])
        elif code is codes.BRANCH:
            text += shortest(value[1][0])
        elif code is codes.ATOMIC_GROUP:
            text += shortest(value)
    return text


def one_of(code, value) -> str:
    if code is codes.LITERAL:
        return chr(value)
    state = parser.State()
    state.flags, state.str = re.UNICODE, ""
    alone = re._compiler.compile(parser.SubPattern(state, [(code, value)]))
    return next(
        (one for one in map(chr, (*range(32, 127), *range(0x3000))) if alone.match(one)), ""
    )


def inner_parts(parts):
    """The sequences within an expression, the whole first."""
    yield parts
    for code, value in parts:
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            yield from inner_parts(value[2])
        elif code is codes.SUBPATTERN:
            yield from inner_parts(value[3])
        elif code is codes.ATOMIC_GROUP:
            yield from inner_parts(value)
        elif code is codes.BRANCH:
            for one in value[1]:
                yield from inner_parts(one)
        elif code in (codes.ASSERT, codes.ASSERT_NOT):
            yield from inner_parts(value[1])


def texts(parsed) -> list[Callable[[int], str]]:
    """What an expression is tried on: what it takes over and over, between what goes before it and
    an end that it does not take."""
    pieces = {" ", "a", "\0"}
    for parts in inner_parts(parsed):
        for at in range(len(parts)):
            pieces.add(shortest(parts[at : at + 1]))
            pieces.add(shortest([parts[at]]) or repeated(parts[at]))
        pieces.add(shortest(parts))
    pieces = sorted(pieces - {""}, key=lambda piece: (len(piece), piece))[:14]
    pumped = [*pieces, *("".join(two) for two in itertools.permutations(pieces[:7], 2))]
    before = {"", *(shortest(parsed[:at]) for at in range(1, len(parsed)))}
    return [
        (lambda n, a=a, b=b, c=c: a + b * n + c)
        for a in sorted(before)[:5]
        for b in pumped
        for c in ("", "\x07", "!")
    ]


def repeated(part) -> str:
    code, value = part
    is_repeat = code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)
    return shortest(value[2]) if is_repeat else ""


def worst(one: Found) -> tuple[float, str]:
    """How much more the second doubling of a text costs than the first, and for which text."""
    found, matcher = (0.0, ""), Matcher(one.pattern, one.flags)
    for make in texts(matcher.parsed):
        for way in one.ways:
            counts = []
            for n in (12, 24, 48):
                try:
                    matcher.spans(make(n), way)
                except TooMany:
                    return float("inf"), make(2)
                counts.append(matcher.steps)
            first, second = counts[1] - counts[0], counts[2] - counts[1]
            if first > 0:
                found = max(found, (second / first, f"{way} in {make(2)!r}"))
    return found


def test_they_are_found():
    assert len(ALL) > 60
    assert {"corpus/sentences.py", "base/languages.py"} <= {one.place.split(":")[0] for one in ALL}


@pytest.mark.parametrize("one", ALL, ids=[one.place for one in ALL])
def test_steps_grow_with_the_text(one):
    """Linear: twice as many steps for the second doubling; of a square, four times."""
    ratio, text = worst(one)
    assert ratio < 3, f"{one.pattern!r}: {ratio:.1f} for {text}"


@pytest.mark.parametrize("one", ALL, ids=[one.place for one in ALL])
def test_the_matcher_finds_what_python_finds(one):
    matcher = Matcher(one.pattern, one.flags)
    compiled = re.compile(one.pattern, one.flags)
    for make in texts(matcher.parsed)[::7]:
        text = make(5)
        given = text
        if isinstance(one.pattern, bytes):
            if not text.isascii():
                continue
            given = text.encode()
        for way in one.ways:
            if way in OVER_AND_OVER:
                expected = [match.span() for match in compiled.finditer(given)]
            else:
                match = getattr(compiled, way)(given)
                expected = [match.span()] if match else []
            assert matcher.spans(text, way) == expected, (text, way)


@pytest.mark.parametrize(
    ("pattern", "way", "is_linear"),
    [
        (r"(a+)+b", "match", False),
        (r"\s+$", "search", False),
        (r"\w+:", "search", False),
        (r"(?<!\w)\w+:", "search", True),
        (r"a*a*b", "match", False),
        (r"(?>a+)+b", "match", True),
        (r"a*+b", "match", True),
        (r".*?,.*?,", "match", True),
        (CODE, "fullmatch", True),
    ],
)
def test_growth_is_told_from_growth(pattern, way, is_linear):
    ratio, _ = worst(Found("", pattern, 0, frozenset({way})))
    assert (ratio < 3) == is_linear, ratio
