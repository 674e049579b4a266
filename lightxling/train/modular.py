"""Modular encoders: a module for every language, made in stages; `encode.modular` uses them.

    WORKDIR/modular.json      the languages, and which parts are done
    WORKDIR/de/data           sentences and paraphrases of a language
    WORKDIR/de/start          the base with a tokenizer and embeddings of the language
    WORKDIR/de/language       masked language modelling
    WORKDIR/de/sentence       paraphrases
    WORKDIR/de/align          the way to the pivot; not for the pivot itself

A language's parts do not depend on which other languages there are, so languages can be added
later. Stages are ordinary runs, each started from the one before it. Source: modular sentence
encoders (arXiv 2407.14878).
"""

import collections
import dataclasses
import functools
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lightxling.base.errors import UserError
from lightxling.base.files import atomic_folder, file_sha256, write_json
from lightxling.base.lines import Problems
from lightxling.base.places import MODULES
from lightxling.base.tree import flatten
from lightxling.config.files import HARMLESS, fingerprint, load
from lightxling.config.identity import identity_of
from lightxling.config.rules import validate
from lightxling.config.schema import Config, NewPieces
from lightxling.config.settings import change
from lightxling.corpus import readers
from lightxling.corpus.cleaning import clean
from lightxling.corpus.paraphrases import file_name, find_paraphrases, read_rows, write_pairs
from lightxling.corpus.sources import Rows, Source
from lightxling.encode.modular import ALIGN, MODULES_FORMAT, read_description
from lightxling.saved import bundle as bundles

STAGES = ("language", "sentence", ALIGN)
TEXT = "text.txt"
FEWEST = 4
"""Paraphrases that can be learnt from: two batches of two."""


class Stopped(Exception):
    """SIGTERM or Ctrl-C has ended a stage, which has said so; the same `build` goes on."""


@dataclasses.dataclass(frozen=True)
class ModularPlan:
    """What `build` is asked for."""

    sources: tuple[str, ...]
    """Parallel text of the pivot and the other languages, `en-de=PATH` each."""
    recipe: str = "modular"
    """modular or modular-v1: recipes RECIPE-language, RECIPE-sentence and RECIPE-align."""
    languages: tuple[str, ...] = ()
    """By default all of the sources."""
    pivot: str = "en"
    """The language that the others come to."""
    align: Literal["both", "paraphrases", "parallel"] = "both"
    """What the alignment adapters learn from: paraphrases across languages, contrasted with the
    batch; parallel sentences, by their cosine; or batches of both in turn, where the recipe has a
    task for the former (modular-v1 has none, and takes paraphrases)."""
    specialise: bool = True
    """Give every language a tokenizer, embeddings and adapters of its own; otherwise the alignment
    adapters stand directly on the base."""
    vocab_size: int = 0
    """Pieces of a language's tokenizer, at most; 0: as many as the base's has."""
    new_pieces: NewPieces = "parts"
    """What pieces start as that the base does not have: the mean of what the base cuts them into,
    or, as published, a mixture of shared ones that are similar (FOCUS)."""
    epochs: tuple[float, ...] = ()
    """Of the three stages; by default as in their recipes."""
    text: tuple[str, ...] = ()
    """Text of one language, `de=PATH` each: for its tokenizer and the first stage, beside the
    sentences that the sources have."""
    paraphrases: tuple[str, ...] = ()
    """Files of paraphrases, `de-de=PATH` within a language and `en-de=PATH` across, in place of
    those that the sources hold."""
    dev_pairs: int = 0
    """Pairs that every stage holds out, at most a tenth of its pairs; 0: one in a hundred."""


def build(
    base: Path, workdir: Path, plan: ModularPlan, *, progress: Callable[[str], None] = print
) -> None:
    """Makes the modules of all languages, going on from what is in `workdir`.

    Raises:
      Stopped: by a signal.
      UserError: what the plan names does not exist or does not fit, or `workdir` holds stages of
        another plan.
    """
    modules = _Modules(base, workdir, plan, progress)
    # what is wrong with the text is said before anything is trained
    material = {code: modules.read(code) for code in modules.chosen}
    for code in modules.chosen:
        modules.train(code, material[code])


class Text(NamedTuple):
    """What a stage reads.

    Attributes:
      sources: written as `corpus.sources`.
      rows: how many there are at least, where that may be few; 0: enough for any batch.
    """

    sources: tuple[str, ...]
    rows: int = 0

    def batch_size(self, largest: int) -> int:
        """The largest power of two, or `largest`, that the rows fill twice."""
        if not self.rows or self.rows >= 2 * largest:
            return largest
        return 1 << (self.rows // 2).bit_length() - 1


class Material(NamedTuple):
    """What the stages of a language can read."""

    parallel: Text
    sentences: Text
    within: Text | None
    """Its paraphrases."""
    across: Text | None
    """Those that are in the language and the pivot."""


class _Modules:
    """A folder of modules that is being made.

    Attributes:
      chosen: the languages that are made now, the pivot first.
      done: name of each part that is there -> what it was made from and with.
      newest: where each language has come to.
      keys: what that was made from and with.
    """

    def __init__(
        self, base: Path, workdir: Path, plan: ModularPlan, progress: Callable[[str], None]
    ):
        self.base, self.workdir, self.plan, self.progress = base, workdir, plan, progress
        self.chosen = self.languages = chosen_languages(plan)
        self.encoder = bundles.load_bundle(base)
        self.recipes = {stage: load(f"{plan.recipe}-{stage}") for stage in STAGES}
        self.sums = {written: _sums(written) for written in (*plan.sources, *plan.paraphrases)}
        self.sums |= {written: _sums(written, "sentences") for written in plan.text}
        self.done, self.of_pivot = {}, sorted(self.sums[source] for source in plan.sources)
        if (workdir / MODULES).exists():
            before = read_description(workdir)
            self.done, self.of_pivot = before["done"], before["pivot_text"]
            self.languages = list(dict.fromkeys([*before["languages"], *self.chosen]))
            if self.languages[0] != plan.pivot:
                raise UserError(f"{workdir} has the pivot {self.languages[0]}, not {plan.pivot}")
        self.newest, self.keys = dict.fromkeys(self.languages, base), {}

    def read(self, code: str) -> Material:
        """Writes a language's sentences and paraphrases.

        Raises:
          UserError: the text is not that of before, or too little.
        """
        plan, sums, folder = self.plan, self.sums, self.workdir / code
        sources = [s for s in plan.sources if code in Source.parse(s).languages]
        text = [sums[s] for s in sources] if code != plan.pivot else self.of_pivot
        if not {tuple(one) for one in text} <= {tuple(sums[source]) for source in plan.sources}:
            raise UserError(
                f"{folder} was made from text that --sources no longer names; name it again, or "
                "choose another --workdir"
            )
        if code == plan.pivot:
            sources = [s for s in sources if sums[s] in self.of_pivot]
        both = {code, plan.pivot}
        given = [s for s in plan.text if Source.parse(s, "sentences").languages == (code,)]
        pairs = [s for s in plan.paraphrases if {code} <= set(Source.parse(s).languages) <= both]
        known = [self.encoder.fingerprint(), sorted(text), sorted(self.of_pivot)]
        if given or pairs:
            known.append(sorted(sums[source] for source in (*given, *pairs)))
        key = fingerprint(known)
        self.keys[code], within, across = key, None, None
        if plan.specialise or plan.align != "parallel":
            shown = self.workdir / plan.pivot / "data"
            write = functools.partial(_write_data, unescape=self.encoder.unescape)
            make = functools.partial(write, sources, code, plan.pivot, shown, given, pairs)
            self._part(f"{code}/data", key, make)
        if plan.specialise:
            within = _paraphrases(folder / "data", (code, code))
        if code != plan.pivot and plan.align != "parallel":
            across = _paraphrases(folder / "data", Source.parse(sources[0]).languages)
        file = folder / "data" / TEXT
        rows = _count(file)
        sentences = Text((f"{code}={file}",), rows)
        return Material(Text(tuple(sources), rows), sentences, within, across)

    def train(self, code: str, material: Material) -> None:
        """Makes the stages of a language."""
        plan, data = self.plan, self.workdir / code / "data"
        if plan.specialise:
            self.keys[code] = fingerprint([self.keys[code], plan.vocab_size, plan.new_pieces])
            make = functools.partial(_start, self.encoder, data, code, plan, self.progress)
            self.newest[code] = self._part(f"{code}/start", self.keys[code], make)
            self._stage(code, "language", material.sentences)
            self._stage(code, "sentence", material.within)
        if code != plan.pivot:
            text, further = material.parallel, material.across
            if further and (plan.align == "paraphrases" or not self.recipes[ALIGN].tasks):
                text, further = further, None
            self._stage(code, ALIGN, text, further, teacher=plan.pivot)

    def _stage(
        self, code: str, stage: str, text: Text, further: Text | None = None, teacher: str = ""
    ) -> None:
        """Trains a stage from the newest of the language."""
        config = self._config(stage, text, further)
        config = holding_out(config, text, self.plan.dev_pairs)
        known = [self.keys[code], _mathematics(config), self.keys.get(teacher)]
        self.keys[code] = fingerprint(known)
        config = change(config, train__init_from=str(self.newest[code]))
        if teacher:
            config = change(config, teacher__source=str(self.newest[teacher]))
        validate(config)
        make = functools.partial(_train, config)
        self.newest[code] = self._part(f"{code}/{stage}", self.keys[code], make)

    def _config(self, stage: str, text: Text, further: Text | None) -> Config:
        """A stage's recipe for the sizes of the base, on some text, with more for its task."""
        plan, base, recipe = self.plan, self.encoder.config, self.recipes[stage]
        if stage == ALIGN and plan.align != "both":
            loss = "cosine" if plan.align == "parallel" else "contrastive"
            recipe = change(recipe, objectives__pivot__loss=loss)
        model, train, tasks = recipe.model, recipe.train, ()
        adapters = (*base.adapters, *(model.adapters if plan.specialise else model.adapters[-1:]))
        if further:
            given = {
                "sources": further.sources,
                "batch_size": further.batch_size(train.batch_size),
            }
            tasks = tuple(change(task, **given) for task in recipe.tasks)
        return change(
            recipe,
            corpus__sources=text.sources,
            corpus__store=str(self.workdir / "stores"),
            model=change(base, adapters=adapters, dropout=model.dropout),
            train__epochs=plan.epochs[STAGES.index(stage)] if plan.epochs else train.epochs,
            train__batch_size=text.batch_size(train.batch_size),
            teacher__priority=(plan.pivot,),
            tasks=tasks,
        )

    def _part(self, name: str, key: str, make: Callable[[Path], None]) -> Path:
        """Makes a part of the folder, unless it is there."""
        path = self.workdir / name
        if self.done.get(name, key) != key:
            raise UserError(
                f"{path} was made with other settings, text or encoder; give those again, or "
                "choose another --workdir"
            )
        self.progress(f"{path} is done" if name in self.done else f"{path}")
        if name not in self.done:
            path.parent.mkdir(parents=True, exist_ok=True)
            make(path)
            self.done[name] = key
            description = {
                "format": MODULES_FORMAT,
                "base": str(self.base),
                "languages": self.languages,
                "pivot_text": self.of_pivot,
                "done": self.done,
            }
            write_json(self.workdir / MODULES, description)
        return path


def holding_out(config: Config, text: Text, pairs: int) -> Config:
    """A stage that holds out so many development pairs of its text, at most a tenth; 0: as its
    recipe does, and so where that has none."""
    if not (pairs and config.corpus.dev_share):
        return config
    share = min(0.1, pairs / text.rows) if text.rows else 0.1
    return change(config, corpus__dev_share=share, corpus__dev_limit=pairs)


def chosen_languages(plan: ModularPlan) -> list[str]:
    """The languages of a plan, the pivot first.

    Raises:
      UserError: names what does not fit.
    """
    have: dict[str, None] = {}
    for written in plan.sources:
        source = Source.parse(written)
        if plan.pivot not in source.languages or len(set(source.languages)) != 2:
            raise UserError(
                f"source {written!r} should be of {plan.pivot} and another language: {plan.pivot} "
                "is what the others come to (--pivot)"
            )
        have |= dict.fromkeys(source.languages)
    if not plan.sources:
        raise UserError("name the parallel text: --sources en-de=PATH en-fr=PATH")
    for code in plan.languages:
        if code not in have:
            raise UserError(f"--languages {code}: the sources have {', '.join(have)}")
    for option, given in (("text", plan.text), ("paraphrases", plan.paraphrases)):
        for written in given:
            languages = Source.parse(written, "sentences").languages
            fits = len(languages) == 1 if option == "text" else len(languages) == 2
            if not fits or not set(languages) <= set(have):
                example = "de=PATH" if option == "text" else "de-de=PATH or en-de=PATH"
                raise UserError(
                    f"--{option} {written}: write it like {example}, with languages of the "
                    f"sources, which have {', '.join(have)}"
                )
            if len(set(languages)) == 2 and plan.pivot not in languages:
                raise UserError(
                    f"--{option} {written}: paraphrases across languages are of the pivot "
                    f"{plan.pivot} and another one"
                )
    if plan.dev_pairs < 0:
        raise UserError(f"--dev-pairs {plan.dev_pairs} should be 0 or more")
    if plan.epochs and (len(plan.epochs) != len(STAGES) or min(plan.epochs) <= 0):
        raise UserError(
            f"--epochs {' '.join(map(str, plan.epochs))} should be three numbers above 0, for the "
            f"stages {', '.join(STAGES)}"
        )
    chosen = [code for code in plan.languages or have if code != plan.pivot]
    return [plan.pivot, *chosen]


def _count(file: Path) -> int:
    """Lines of a file of ours; 0 where there is none."""
    return file.read_bytes().count(b"\n") if file.exists() else 0


def _paraphrases(folder: Path, languages: Sequence[str]) -> Text:
    """The paraphrases of two languages, or of one twice.

    Raises:
      UserError: there are too few.
    """
    file = folder / file_name(languages)
    pairs = _count(file)
    if pairs < FEWEST:
        raise UserError(
            f"the sources hold {pairs} paraphrases of {'-'.join(languages)}, and {FEWEST} is the "
            "least: few sentences have several translations. Leave the language out (--languages) "
            "or add text, such as Tatoeba"
        )
    return Text((f"{'-'.join(languages)}={file}",), pairs)


def _mathematics(config: Config) -> dict[str, Any]:
    """The settings that a stage's result depends on; what files hold is looked at elsewhere."""
    files = {"corpus.sources", "sources", "train.init_from", "teacher.source"}
    values = flatten(identity_of(config))
    return {
        name: value
        for name, value in values.items()
        if re.sub(r"^tasks\.\d+\.", "", name) not in files | HARMLESS
    }


def _sums(written: str, rows: Rows = "pairs") -> list[str]:
    """What a source is: its languages and the checksums of its files."""
    source = Source.parse(written, rows)
    return [*source.languages, *map(file_sha256, readers.files(source))]


def _write_data(
    sources: Sequence[str],
    code: str,
    pivot: str,
    of_pivot: Path,
    given: Sequence[str],
    pairs: Sequence[str],
    folder: Path,
    *,
    unescape: bool,
) -> None:
    """A language's distinct sentences, one a line, in an order without meaning; its paraphrases.

    Those across languages also go through the ones of the pivot, which any language may have shown
    and which are read from the folder `of_pivot`.

    Args:
      given: further text of the language.
      pairs: paraphrases to take instead of those of the same languages that the sources hold.
    """
    problems = Problems()
    read = functools.partial(read_rows, problems=problems, unescape=unescape)
    rows = list(read(sources))
    texts = {row[languages.index(code)] for languages, row in rows} - {""}
    for written in given:
        lines = readers.read_source(Source.parse(written, "sentences"), problems, "sentences")
        texts |= {clean(text, unescape=unescape) for (text,) in lines} - {""}
    ordered = sorted(texts, key=lambda text: hashlib.blake2b(text.encode()).digest())
    shown = of_pivot / file_name((pivot, pivot))
    known = read([f"{pivot}-{pivot}={shown}"] if code != pivot and shown.exists() else [])
    with atomic_folder(folder) as temporary:
        (temporary / TEXT).write_text(
            "".join(f"{text}\n" for text in ordered), encoding="utf-8", newline="\n"
        )
        orders = {languages for languages, _ in rows}
        taken = collections.defaultdict(list)
        for languages, row in read(pairs):
            if languages[::-1] in orders:  # the files have the order of the sources
                languages, row = languages[::-1], row[::-1]
            if all(row):
                taken[languages].append(row)
        found = find_paraphrases(rows, known, problems=problems)
        for languages, own in (found | taken).items():
            if set(languages) in ({code}, {code, pivot}):
                write_pairs(own, temporary / file_name(languages))
    problems.warn("left out")


def _start(
    encoder: bundles.Bundle,
    data: Path,
    code: str,
    plan: ModularPlan,
    progress: Callable[[str], None],
    output: Path,
) -> None:
    from lightxling.train.specialise import read_sentences, specialise_to

    text = read_sentences([data / TEXT], unescape=encoder.unescape)
    specialise_to(encoder, text, code, plan.vocab_size, plan.new_pieces, output, progress)


def _train(config: Config, run: Path) -> None:
    from lightxling.train.loop import train

    if train(config, run) is None:
        raise Stopped
