"""Modular encoders: a module for every language, made in stages, and their use.

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

import dataclasses
import functools
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from lightxling import bundle as bundles
from lightxling.config import (
    HARMLESS,
    Config,
    NewPieces,
    UserError,
    fingerprint,
    flatten,
    load,
    to_dict,
)
from lightxling.corpus import readers
from lightxling.corpus.paraphrases import file_name, paraphrases, read_rows, write_pairs
from lightxling.corpus.readers import Source
from lightxling.corpus.store import file_sha256
from lightxling.encoder import Encoder
from lightxling.files import atomic_folder, write_json
from lightxling.validate import validate

DESCRIPTION = "modular.json"
FORMAT = "lightxling-modular"
STAGES = ("language", "sentence", "align")
TEXT = "text.txt"
ALIGN = "align"
"""The adapter that is off where everything is in one language."""
FEWEST = 4
"""Paraphrases that can be learnt from: two batches of two."""


class Stopped(Exception):
    """SIGTERM or Ctrl-C has ended a stage, which has said so; the same `build` goes on."""


@dataclasses.dataclass(frozen=True)
class Plan:
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
    """What pieces of a language's tokenizer start as that the base lacks: the mean of what the base
    cuts them into, or, as published, a mixture of shared ones that are similar (FOCUS)."""
    epochs: tuple[float, ...] = ()
    """Of the three stages; by default as in their recipes."""


def build(
    base: Path, workdir: Path, plan: Plan, *, progress: Callable[[str], None] = print
) -> None:
    """Makes the modules of all languages, going on from what is in `workdir`.

    Raises:
      Stopped: by a signal.
      UserError: what the plan names does not exist or does not fit, or `workdir` holds stages of
        another plan.
    """
    languages = check(plan)
    encoder = bundles.load(base)
    recipes = {stage: load(f"{plan.recipe}-{stage}") for stage in STAGES}
    sums = {written: _sums(written) for written in plan.sources}
    done, of_pivot = {}, sorted(sums.values())
    if (workdir / DESCRIPTION).exists():
        before = _read(workdir)
        done, of_pivot = before["done"], before["pivot_text"]
        languages = [*before["languages"], *(c for c in languages if c not in before["languages"])]
        if languages[0] != plan.pivot:
            raise UserError(f"{workdir} has the pivot {languages[0]}, not {plan.pivot}")

    def part(name: str, key: str, make: Callable[[Path], None]) -> Path:
        """Makes a part of the folder, unless it is there."""
        path = workdir / name
        if done.get(name, key) != key:
            raise UserError(
                f"{path} was made with other settings, text or encoder; give those again, or "
                "choose another --workdir"
            )
        progress(f"{path} is done" if name in done else f"{path}")
        if name not in done:
            path.parent.mkdir(parents=True, exist_ok=True)
            make(path)
            done[name] = key
            description = {
                "format": FORMAT,
                "base": str(base),
                "languages": languages,
                "pivot_text": of_pivot,
                "done": done,
            }
            write_json(workdir / DESCRIPTION, description)
        return path

    newest, keys = dict.fromkeys(languages, base), {}

    def run(code: str, name: str, config: Config, teacher: str = "") -> None:
        """Trains a stage from the newest of the language."""
        keys[code] = fingerprint([keys[code], _mathematics(config), keys.get(teacher)])
        config = dataclasses.replace(
            config, train=dataclasses.replace(config.train, init_from=str(newest[code]))
        )
        if teacher:
            settings = dataclasses.replace(config.teacher, source=str(newest[teacher]))
            config = dataclasses.replace(config, teacher=settings)
        validate(config)
        newest[code] = part(f"{code}/{name}", keys[code], functools.partial(_train, config))

    chosen = check(plan)
    sources, within, across = {}, {}, {}
    for code in chosen:  # what is wrong with the text is said before anything is trained
        of_code = [s for s in plan.sources if code in Source.parse(s).languages]
        text = [sums[s] for s in of_code] if code != plan.pivot else of_pivot
        if not {tuple(one) for one in text} <= {tuple(one) for one in sums.values()}:
            raise UserError(
                f"{workdir / code} was made from text that --sources no longer names; name it "
                "again, or choose another --workdir"
            )
        if code == plan.pivot:
            of_code = [s for s in of_code if sums[s] in of_pivot]
        sources[code] = of_code
        keys[code] = fingerprint([encoder.fingerprint(), sorted(text), sorted(of_pivot)])
        data = workdir / code / "data"
        if plan.specialise or plan.align != "parallel":
            shown = workdir / plan.pivot / "data"
            make = functools.partial(_write_data, of_code, code, plan.pivot, shown)
            part(f"{code}/data", keys[code], make)
        if plan.specialise:
            within[code] = _paraphrases(data, (code, code))
        if code != plan.pivot and plan.align != "parallel":
            across[code] = _paraphrases(data, Source.parse(of_code[0]).languages)

    for code in chosen:
        data = workdir / code / "data"
        sentences = _count(data / TEXT)
        config = functools.partial(_config, base=encoder, plan=plan, workdir=workdir)
        if plan.specialise:
            keys[code] = fingerprint([keys[code], plan.vocab_size, plan.new_pieces])
            make = functools.partial(_start, encoder, data, code, plan, progress)
            newest[code] = part(f"{code}/start", keys[code], make)
            text = Text((f"{code}={data / TEXT}",), sentences)
            run(code, "language", config(recipes["language"], stage="language", text=text))
            run(code, "sentence", config(recipes["sentence"], stage="sentence", text=within[code]))
        if code != plan.pivot:
            recipe, further = recipes[ALIGN], across.get(code)
            text = Text(tuple(sources[code]), sentences)
            if further and (plan.align == "paraphrases" or not recipe.tasks):
                text, further = further, None
            align = config(recipe, stage=ALIGN, text=text, further=further)
            run(code, ALIGN, align, teacher=plan.pivot)


def check(plan: Plan) -> list[str]:
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
    if plan.epochs and (len(plan.epochs) != len(STAGES) or min(plan.epochs) <= 0):
        raise UserError(
            f"--epochs {' '.join(map(str, plan.epochs))} should be three numbers above 0, for the "
            f"stages {', '.join(STAGES)}"
        )
    chosen = [code for code in plan.languages or have if code != plan.pivot]
    return [plan.pivot, *chosen]


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


def _config(
    recipe: Config,
    *,
    base: bundles.Bundle,
    plan: Plan,
    workdir: Path,
    stage: str,
    text: Text,
    further: Text | None = None,
) -> Config:
    """A stage's recipe for the sizes of the base, on some text, with further text for its task."""
    pivot = recipe.objectives.pivot
    if stage == ALIGN and plan.align != "both":
        loss = "cosine" if plan.align == "parallel" else "contrastive"
        pivot = dataclasses.replace(pivot, loss=loss)
    model, train = recipe.model, recipe.train
    adapters = model.adapters if plan.specialise else model.adapters[-1:]
    return dataclasses.replace(
        recipe,
        corpus=dataclasses.replace(
            recipe.corpus, sources=text.sources, store=str(workdir / "stores")
        ),
        model=dataclasses.replace(
            base.config, adapters=(*base.config.adapters, *adapters), dropout=model.dropout
        ),
        train=dataclasses.replace(
            train,
            epochs=plan.epochs[STAGES.index(stage)] if plan.epochs else train.epochs,
            batch_size=text.batch_size(train.batch_size),
        ),
        objectives=dataclasses.replace(recipe.objectives, pivot=pivot),
        teacher=dataclasses.replace(recipe.teacher, priority=(plan.pivot,)),
        tasks=tuple(
            dataclasses.replace(
                task,
                sources=further.sources,
                batch_size=further.batch_size(train.batch_size),
            )
            for task in recipe.tasks
            if further
        ),
    )


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
    values = flatten(to_dict(config))
    return {
        name: value
        for name, value in values.items()
        if re.sub(r"^tasks\.\d+\.", "", name) not in files | HARMLESS
    }


def _sums(written: str) -> list[str]:
    """What a source is: its languages and the checksums of its files."""
    source = Source.parse(written)
    return [*source.languages, *map(file_sha256, readers.files(source))]


def _write_data(
    sources: Sequence[str], code: str, pivot: str, of_pivot: Path, folder: Path
) -> None:
    """A language's distinct sentences, one a line, in an order without meaning; its paraphrases.

    Those across languages also go through the ones of the pivot, which any language may have shown
    and which are read from the folder `of_pivot`.
    """
    rows = list(read_rows(sources))
    texts = {row[languages.index(code)] for languages, row in rows} - {""}
    ordered = sorted(texts, key=lambda text: hashlib.blake2b(text.encode()).digest())
    shown = of_pivot / file_name((pivot, pivot))
    known = read_rows([f"{pivot}-{pivot}={shown}"] if code != pivot and shown.exists() else [])
    with atomic_folder(folder) as temporary:
        (temporary / TEXT).write_text("".join(f"{text}\n" for text in ordered), encoding="utf-8")
        for languages, pairs in paraphrases(rows, known).items():
            if set(languages) in ({code}, {code, pivot}):
                write_pairs(pairs, temporary / file_name(languages))


def _start(
    encoder: bundles.Bundle,
    data: Path,
    code: str,
    plan: Plan,
    progress: Callable[[str], None],
    output: Path,
) -> None:
    from lightxling.specialise import read_sentences, specialise_to

    text = read_sentences([data / TEXT])
    specialise_to(encoder, text, code, plan.vocab_size, plan.new_pieces, output, progress)


def _train(config: Config, run: Path) -> None:
    from lightxling.train.loop import train

    if train(config, run) is None:
        raise Stopped


def _read(workdir: Path) -> dict[str, Any]:
    description = bundles.read_json(workdir / DESCRIPTION)
    is_whole = (
        description.get("format") == FORMAT
        and isinstance(description.get("done"), dict)
        and all(isinstance(description.get(key), list) for key in ("languages", "pivot_text"))
        and isinstance(description.get("base"), str)
        and description["languages"]
    )
    if not is_whole:
        raise UserError(f"{workdir / DESCRIPTION} is damaged; run `lightxling modular` again")
    return description


class ModularEncoder:
    """The modules of several languages. Sentences come with their language and their use.

    Attributes:
      languages: codes, the pivot first.
      pivot: the language without alignment adapter.
    """

    def __init__(self, encoders: dict[str, Encoder], pivot: str):
        self.languages, self.pivot, self._encoders = tuple(encoders), pivot, encoders

    @classmethod
    def load(cls, workdir: Path) -> "ModularEncoder":
        """Loads what `build` made.

        Raises:
          UserError: it is damaged, or not finished.
        """
        description = _read(workdir)
        pivot, done = description["languages"][0], description["done"]
        encoders = {}
        for code in description["languages"]:
            run = workdir / code / (ALIGN if code != pivot else "sentence")
            if code == pivot and f"{pivot}/start" not in done:
                run = Path(description["base"])  # not specialised
            elif f"{code}/{run.name}" not in done:
                raise UserError(f"{run} is not finished; run `lightxling modular` again")
            encoders[code] = Encoder.load(run)
        return cls(encoders, pivot)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of all that vectors depend on."""
        return fingerprint([[code, one.fingerprint] for code, one in self._encoders.items()])

    def of(self, language: str, *, is_cross: bool) -> Encoder:
        """The encoder of a language.

        Args:
          is_cross: whether its vectors are compared with those of other languages; only then the
            alignment adapter is on.

        Raises:
          UserError: there is no module of this language.
        """
        if language not in self._encoders:
            raise UserError(f"no module of {language!r}; there are {', '.join(self.languages)}")
        return self._used(language, is_cross)

    @functools.cache  # noqa: B019, as many as languages
    def _used(self, language: str, is_cross: bool) -> Encoder:
        encoder = self._encoders[language]
        names = [adapter.name for adapter in encoder.bundle.config.adapters]
        if is_cross or ALIGN not in names:
            return encoder
        return encoder.using(*(name for name in names if name != ALIGN))

    def choose(self, language: str, is_cross: bool) -> Callable[[list[str]], np.ndarray]:
        """The function from sentences to vectors, not normalised, that evaluation asks for."""
        return functools.partial(self.of(language, is_cross=is_cross).encode, normalize=False)

    def __call__(self, sentences: list[str]) -> np.ndarray:
        raise UserError(
            "modular encoders need the language of every sentence, which is not said here; give "
            "the run of one language instead"
        )

    def encode(
        self, sentences: Sequence[str], language: str, *, is_cross: bool = True, **options
    ) -> Float[np.ndarray, "N D"]:
        """Vectors of sentences of one language; see `of` and `Encoder.encode`."""
        return self.of(language, is_cross=is_cross).encode(sentences, **options)
