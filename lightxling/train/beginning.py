"""What a run begins with where no recipe is named: the encoder in the package that knows the
languages of the text, or nothing; and for how long, by the size of the text.

The lengths are a choice: three sizes of text were measured (docs/training.md, "How much text does
what").
"""

from collections.abc import Sequence
from typing import NamedTuple

from lightxling.base.errors import UserError
from lightxling.base.files import read_json
from lightxling.base.lines import Problems
from lightxling.base.places import DEFAULT, DESCRIPTION
from lightxling.config.files import from_dict, load, recipes
from lightxling.config.schema import Config, ModelConfig
from lightxling.config.settings import change
from lightxling.corpus.readers import read_source
from lightxling.corpus.sources import Source
from lightxling.saved.cards import Card, cards

FEW = 4
"""Language pairs that are named; of more, their number is said."""

PIECES = ((5_000, 2_000), (30_000, 8_000), (200_000, 16_000), (600_000, 32_000))
"""From nothing: below so many pairs, so many pieces; of more text, those of the recipe."""


class Beginning(NamedTuple):
    """A recipe for some text, and why it is that one."""

    config: Config
    said: str


def begin(sources: Sequence[str], *, from_scratch: bool = False) -> Beginning:
    """The recipe for these sources.

    Raises:
      UserError: there are none, or a file cannot be read.
    """
    if not sources:
        raise UserError(
            "no text is named: --corpus.sources en-de=mine.tsv, with your two languages; a recipe "
            "may stand first, as in lightxling train light"
        )
    parsed = [Source.parse(text) for text in sources]
    pairs = sum(1 for source in parsed for _ in read_source(source, Problems()))
    kinds = list(dict.fromkeys(source.languages for source in parsed))
    languages = list(dict.fromkeys(code for kind in kinds for code in kind))
    shown = f"{pairs:,} pairs of " + (
        ", ".join("-".join(kind) for kind in kinds) if len(kinds) <= FEW else f"{len(kinds)} kinds"
    )
    card = None if from_scratch else best_card(languages)
    if card is not None:
        config = go_on(card, pairs)
        why = (
            f"going on from {card.name}, the encoder in the package (--from-scratch True begins "
            "with nothing)"
        )
    else:
        config = from_nothing(pairs)
        why = f"the recipe {config.name}, from nothing"
        if not from_scratch:
            known = {code for one in cards() for code in one.languages}
            new = [code for code in languages if code not in known]
            why += f", as no encoder in the package has {', '.join(new or languages)}"
    return Beginning(config, f"{shown}: {why}")


def best_card(languages: Sequence[str]) -> Card | None:
    """The encoder in the package that has all of these languages and the best scores in them."""

    def score(card: Card) -> tuple[float, bool]:
        found = [card.scores[code] for code in languages if code in card.scores]
        return sum(found) / max(len(found), 1), card.name == DEFAULT

    having = [card for card in cards() if set(languages) <= set(card.languages)]
    return max(having, key=score) if having else None


def go_on(card: Card, pairs: int) -> Config:
    """A recipe that goes on from an encoder in the package."""
    recipe = load(card.name if card.name in recipes() else DEFAULT)
    model = from_dict(ModelConfig, read_json(card.folder / DESCRIPTION)["model"], "model.")
    batch = 128 if pairs < 20_000 else 256 if pairs < 200_000 else 512
    seen = max(min(4 * pairs, 240_000), pairs, 20 * batch)
    return _measured_often(
        change(
            recipe,
            model=model,
            corpus__dev_limit=2000,
            optimizer__warmup_steps=20,
            train__init_from=card.name,
            train__batch_size=batch,
        ),
        seen,
    )


def from_nothing(pairs: int) -> Config:
    """A recipe that begins with nothing: a table with as many pieces as there is text for."""
    recipe = load(DEFAULT)
    pieces = next((size for most, size in PIECES if pairs < most), recipe.tokenizer.vocab_size)
    recipe = change(
        recipe,
        corpus__dev_limit=2000,
        tokenizer__vocab_size=pieces,
        train__batch_size=512,
    )
    seen = max(min(20 * pairs, 720_000), min(4 * pairs, 1_200_000), 2 * pairs, 20 * 512)
    return _measured_often(recipe, seen)


def _measured_often(config: Config, seen: int) -> Config:
    """A run over so many pairs, with some twenty measurements."""
    steps = seen // config.train.batch_size
    every = max(steps // 20, 10)
    return change(
        config, train__pairs=seen, train__dev_every=every, train__checkpoint_every=2 * every
    )
