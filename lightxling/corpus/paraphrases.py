"""Real paraphrases out of parallel text: sentences of one language with a translation in common.

Sentences and their translations are a graph. Two sentences of one language that are neighbours of
a third one, the hub, are paraphrases (a path of length 2). A sentence and a translation of its
paraphrase that is not a translation of its own are a paraphrase across languages (length 3).

    "He is ill." - "Er ist krank." - "He is sick." - "Ihm ist schlecht."
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightxling.base.errors import UserError
from lightxling.base.files import atomic
from lightxling.base.lines import Problems
from lightxling.corpus import readers
from lightxling.corpus.cleaning import clean, content, content_hash
from lightxling.corpus.sources import Source

Node = tuple[str, str]
"""Language and `content` of a sentence: what differs in case or punctuation is the same one."""
Pair = tuple[str, str]
"""Languages of the two sides, or the two sentences."""
_SHOWN = 40  # characters of a text that is left out


def find_paraphrases(
    rows: Iterable[tuple[Pair, Pair]],
    known: Iterable[tuple[Pair, Pair]] = (),
    *,
    limit: int = 4,
    problems: Problems | None = None,
) -> dict[Pair, list[tuple[str, str]]]:
    """Paraphrases within the languages of a parallel text, and across them.

    A function of the set of rows: their order changes nothing, but for which spelling of a sentence
    is the one that is given (the first).

    Args:
      rows: languages and sentences of each pair.
      known: languages, twice the same, and sentences of paraphrases from elsewhere, which lead
        across as well. They are not returned.
      limit: at most this many neighbours of a hub are paired with each other, and at most this many
        translations given to a sentence through one paraphrase: those with the lowest hashes.
      problems: counts rows that say nothing, and neighbours of a hub beyond the limit.

    Returns:
      By languages, (l, l) within one and (first, other) across, as the rows have them: distinct
      pairs, none of them a translation in the rows, in an order without meaning.
    """
    problems = problems or Problems()
    text: dict[Node, str] = {}
    neighbours: dict[Node, set[Node]] = defaultdict(set)
    across: set[Pair] = set()
    for languages, sentences in rows:
        nodes = [(c, content(s)) for c, s in zip(languages, sentences, strict=True)]
        if reason := _useless(languages, nodes):
            problems.add(reason, repr(" | ".join(sentences))[:_SHOWN])
            continue
        across.add(languages)
        for node, sentence in zip(nodes, sentences, strict=True):
            text.setdefault(node, sentence)
        neighbours[nodes[0]].add(nodes[1])
        neighbours[nodes[1]].add(nodes[0])

    # within a language: pairs of what lies around a hub, by hash, so that a limit favours none
    rank = {node: (content_hash(node[1]), node) for node in text}
    found: dict[Pair, set[tuple[Node, Node]]] = defaultdict(set)
    for around in neighbours.values():
        by_language = defaultdict(list)
        for node in sorted(around, key=rank.__getitem__):
            by_language[node[0]].append(node)
        for language, nodes in by_language.items():
            for node in nodes[limit:]:
                problems.add(f"more than {limit} translations of one sentence", text[node][:_SHOWN])
            for pair in itertools.combinations(nodes[:limit], 2):
                found[language, language].add(pair)
    within = {pair for pairs in found.values() for pair in pairs}
    for languages, sentences in known:
        pair = tuple((c, content(s)) for c, s in zip(languages, sentences, strict=True))
        if any(node in neighbours for node in pair):
            within.add(pair)
            for node, sentence in zip(pair, sentences, strict=True):
                text.setdefault(node, sentence)
    # across: from a sentence over its paraphrase to that one's translations, in both directions
    for one, other in itertools.chain(within, (pair[::-1] for pair in within)):
        further = neighbours.get(other, set()) - neighbours.get(one, set())
        further = sorted(further, key=rank.__getitem__)
        for languages in across:
            if one[0] in languages:
                side = languages.index(one[0])
                ends = [node for node in further if node[0] == languages[1 - side]]
                for end in ends[:limit]:
                    found[languages].add((one, end) if side == 0 else (end, one))

    def order(pair: tuple[Node, Node]):
        return content_hash("\t".join(node[1] for node in pair)), pair

    return {
        languages: [(text[a], text[b]) for a, b in sorted(pairs, key=order)]
        for languages, pairs in sorted(found.items())
    }


def _useless(languages: Pair, nodes: Sequence[Node]) -> str:
    """Why a row shows no paraphrases; nothing if it may."""
    if languages[0] == languages[1]:
        return "both sides in one language"
    return "" if all(node[1] for node in nodes) else "a side without letters"


def read_rows(
    sources: Sequence[str], problems: Problems, *, unescape: bool = True
) -> Iterable[tuple[Pair, Pair]]:
    """Cleaned rows of sources written as `en-de=PATH`; what holds none is counted in `problems`.

    Raises:
      UserError: a source is not of two languages, or cannot be read.
    """
    for written in sources:
        source = Source.parse(written)
        if len(source.languages) != 2:
            raise UserError(f"source {written!r} should be of two languages, such as en-de")
        for row in readers.read_source(source, problems):
            first, second = (clean(side, unescape=unescape) for side in row)
            yield source.languages, (first, second)


def write_paraphrases(sources: Sequence[str], output: Path, limit: int = 4) -> dict[str, int]:
    """Writes `paraphrases.de-de.tsv` and so on into a folder; returns how many pairs each has.

    The same sources give the same bytes.

    Raises:
      UserError: the sources hold no sentence with two translations.
    """
    problems = Problems()
    found = find_paraphrases(read_rows(sources, problems), limit=limit, problems=problems)
    problems.warn("left out")
    if not found:
        raise UserError(
            f"{', '.join(sources)}: no sentence has several translations, so there are no "
            "paraphrases; Tatoeba has many"
        )
    output.mkdir(parents=True, exist_ok=True)
    for languages, pairs in found.items():
        write_pairs(pairs, output / file_name(languages))
    return {file_name(languages): len(pairs) for languages, pairs in found.items()}


def file_name(languages: Sequence[str]) -> str:
    return f"paraphrases.{'-'.join(languages)}.tsv"


def write_pairs(pairs: Iterable[tuple[str, str]], path: Path) -> None:
    """Writes a pair a line, with a tab between its sides."""
    with atomic(path) as temporary:
        lines = "".join(f"{first}\t{second}\n" for first, second in pairs)
        temporary.write_text(lines, encoding="utf-8", newline="\n")
