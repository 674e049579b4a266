"""Words of five languages with the forms that sentences need.

Four tables lie beside this file, one concept per line:

  nouns.tsv       "m Apfel|Äpfel": gender, singular, and the plural where it is not regular. German
                  `w` is a masculine that takes -n outside the nominative (den Kollegen), Spanish
                  `a` a feminine that takes el and un (el agua), `m!` or `f!` an Italian place one
                  goes to without article (in banca), `:f` a plural of another gender (le uova).
                  English "bread|-" has no plural and no "a".
  verbs.tsv       the forms that templates use. All take haben, avoir and avere.
  adjectives.tsv  feminine and plurals where not regular. French "^grand" and Italian "^bello"
                  stand before their noun,
                  Spanish names its copula first, German gives base, stem and comparative.
  phrases.tsv     what does not inflect: times, cities, numbers, activities.

`takes` lists the kinds of noun, or the single nouns (car_park), that go with a verb or an
adjective. A kind with an s, such as fruits, stands for the nouns of that kind in the plural.

A form is named by what it does to a masculine: German "den" is the definite accusative, so
den Mann, die Frau, das Kind; French "du" is de with the article, so du lait, de la crème, de l'eau.
"""

import dataclasses
import functools
from pathlib import Path

from lightxling.corpus.everyday import LANGUAGES

PLURAL_TWINS = ("fruit", "food1", "pair")  # one buys apples and shoes, hardly ever one of them


@dataclasses.dataclass(frozen=True)
class Word:
    """One concept; `cells` are its table cells in the order of LANGUAGES."""

    part: str  # noun, verb, adjective or phrase
    kinds: tuple[str, ...]
    takes: tuple[str, ...]
    cells: tuple[str, ...]
    plural: bool = False  # the twin that only stands in the plural

    @property
    def name(self) -> str:
        return self.cells[0].split("|")[0].replace(" ", "_")

    @property
    def countable(self) -> bool:
        return not self.plural and "|-" not in self.cells[0]

    def goes_with(self, noun: "Word") -> bool:
        names = noun.kinds if noun.plural else (*noun.kinds, noun.name)
        return any(name in self.takes for name in names)


@functools.cache
def words() -> tuple[Word, ...]:
    """All words of the four tables, and the plural twins."""
    rows = []
    for part in ("noun", "verb", "adjective", "phrase"):
        table = Path(__file__).with_name(f"{part}s.tsv")
        for line in table.read_text(encoding="utf-8").splitlines()[1:]:
            kinds, *cells = line.split("\t")
            takes = cells.pop(0) if part in ("verb", "adjective") else ""
            rows.append(Word(part, tuple(kinds.split()), tuple(takes.split()), tuple(cells)))
    twins = [
        dataclasses.replace(word, kinds=(f"{word.kinds[0]}s",), plural=True)
        for word in rows
        if word.kinds[0] in PLURAL_TWINS
    ]
    return (*rows, *twins)


@functools.cache
def render(word: Word, form: str, language: str, adjective: Word | None = None) -> str:
    """One form of a word; a noun may carry an adjective.

    A trailing + asks for the plural: render(apple, "der+", "de") is die Äpfel.
    """
    i = LANGUAGES.index(language)
    cell = word.cells[i]
    if word.part == "noun":
        plural = word.plural or form.endswith("+")
        described = adjective.cells[i] if adjective else ""
        if language == "it" and form in _ITALIAN_OWN:
            return _italian_own(cell, form, plural, "family" in word.kinds)
        return _NOUN[language](cell, form.removesuffix("+"), plural, described)
    if word.part == "verb":
        return _VERB[language](cell, form)
    if word.part == "adjective":
        return _ADJECTIVE[language](cell, form)
    if form == "de":
        return _french_de(cell) + cell
    if form == "a":  # Italian: ad Atene
        return ("ad " if cell[0] in "aA" else "a ") + cell
    return cell.split("|")[int(form or 1) - 1]


@functools.cache
def agree(adjective: Word, noun: Word, language: str, plural: bool = False) -> str:
    """The form after the verb to be: la porte est ouverte, las sillas son nuevas."""
    i = LANGUAGES.index(language)
    if language in ("en", "de"):
        return adjective.cells[i].split("|")[0]
    gender, plural_gender = _genders(noun.cells[i])
    plural = plural or noun.plural
    forms = _ROMANCE[language](adjective.cells[i])
    return forms[2 * plural + ((plural_gender if plural else gender) == "f")]


# Nouns ----------------------------------------------------------------------------------------


def _noun(cell: str, plural_rule) -> tuple[str, str, str]:
    """Splits "m Apfel|Äpfel" into gender mark, singular and plural."""
    gender, _, stems = cell.partition(" ")
    singular, _, plural = stems.partition("|")
    return gender, singular, plural.partition(":")[0] or plural_rule(singular, gender[0])


def _genders(cell: str) -> tuple[str, str]:
    """m or f, in the singular and in the plural, of a Romance noun."""
    gender = cell[0].replace("a", "f")
    return gender, cell.partition(":")[2] or gender


def _english_noun(cell: str, form: str, plural: bool, adjective: str) -> str:
    singular, _, irregular = cell.partition("|")
    noun = (irregular or _english_s(singular)) if plural else singular
    noun = f"{adjective.split('|')[0]} {noun}" if adjective else noun
    if form == "a":
        return _english_a(noun) + noun
    return f"{form} {noun}" if form else noun


def _english_s(stem: str) -> str:
    if stem.endswith(("s", "x", "ch", "sh", "potato", "tomato")):
        return stem + "es"
    if stem.endswith("y") and stem[-2] not in "aeiou":
        return stem[:-1] + "ies"
    return stem + "s"


def _english_a(phrase: str) -> str:
    silent_h, spoken_y = phrase.startswith("hour"), phrase.startswith(("uni", "use", "eu"))
    return "an " if (phrase[0] in "aeiou" and not spoken_y) or silent_h else "a "


_CASES = {  # of the forms that name a determiner: masculine, feminine, neuter, plural
    "der": ("nom", "der/die/das/die"),
    "den": ("acc", "den/die/das/die"),
    "dem": ("dat", "dem/der/dem/den"),
    "zum": ("dat", "zum/zur/zum/zu den"),
    "im": ("dat", "im/in der/im/in den"),
    "vom": ("dat", "vom/von der/vom/von den"),
    "dieser": ("nom", "dieser/diese/dieses/diese"),
    "diesen": ("acc", "diesen/diese/dieses/diese"),
    "welchen": ("acc", "welchen/welche/welches/welche"),
    "ein": ("nom", "ein/eine/ein/"),
    "einen": ("acc", "einen/eine/ein/"),
    "einem": ("dat", "einem/einer/einem/"),
}
for _stem in ("kein", "mein", "dein", "unser"):
    _CASES |= {
        _stem: ("nom", f"{_stem}/{_stem}e/{_stem}/{_stem}e"),
        f"{_stem}en": ("acc", f"{_stem}en/{_stem}e/{_stem}/{_stem}e"),
        f"{_stem}em": ("dat", f"{_stem}em/{_stem}er/{_stem}em/{_stem}en"),
    }
_WEAK = {"nom": "e/e/e/en", "acc": "en/e/e/en", "dat": "en/en/en/en"}
_MIXED = {"nom": "er/e/es/en", "acc": "en/e/es/en", "dat": "en/en/en/en"}
_PRONOUNS = {"er": "er/sie/es/sie", "ihn": "ihn/sie/es/sie"}


def _german_noun(cell: str, form: str, plural: bool, adjective: str) -> str:
    gender, singular, many = _noun(cell, lambda singular, gender: singular)
    column = 3 if plural else "mfn".index(gender.replace("w", "m"))
    if form in _PRONOUNS:
        return _PRONOUNS[form].split("/")[column]
    case, determiners = _CASES[form] if form else ("nom", "///")
    determiner = determiners.split("/")[column]
    noun = many if plural or (gender == "w" and case != "nom") else singular
    if plural and case == "dat" and not noun.endswith(("n", "s")):
        noun += "n"
    if adjective:
        weak = form in ("der", "den", "dem", "zum", "im", "vom") or form.startswith(
            ("dies", "welch")
        )
        ending = (_WEAK if weak else _MIXED)[case].split("/")[column]
        if plural and not determiner:
            ending = "e"  # strong: neue Schuhe
        noun = f"{adjective.split('|')[1]}{ending} {noun}"
    return f"{determiner} {noun}".lstrip()


_FRENCH = {  # masculine, feminine, plural; before a vowel: masculine, feminine, plural
    "": ("", "", "", "", "", ""),
    "le": ("le ", "la ", "les ", "l'", "l'", "les "),
    "un": ("un ", "une ", "des ", "un ", "une ", "des "),
    "du": ("du ", "de la ", "des ", "de l'", "de l'", "des "),
    "au": ("au ", "à la ", "aux ", "à l'", "à l'", "aux "),
    "de": ("de ", "de ", "de ", "d'", "d'", "d'"),
    "ce": ("ce ", "cette ", "ces ", "cet ", "cette ", "ces "),
    "quel": ("quel ", "quelle ", "quels ", "quel ", "quelle ", "quels "),
    "mon": ("mon ", "ma ", "mes ", "mon ", "mon ", "mes "),
    "ton": ("ton ", "ta ", "tes ", "ton ", "ton ", "tes "),
    "notre": ("notre ", "notre ", "nos ", "notre ", "notre ", "nos "),
}
_NO_ELISION = ("haricot", "hamster", "haut", "hambourg", "yaourt")


def _before_vowel(text: str) -> bool:
    text = text.lower()
    return text[0] in "aeiouyàâéèêëîïôœh" and not text.startswith(_NO_ELISION)


def _french_de(text: str) -> str:
    return "d'" if _before_vowel(text) else "de "


def _french_plural(singular: str, gender: str) -> str:
    if singular.endswith(("s", "x", "z")):
        return singular
    if singular.endswith("al"):
        return singular[:-2] + "aux"
    return singular + ("x" if singular.endswith(("eau", "eu")) else "s")


def _french_noun(cell: str, form: str, plural: bool, adjective: str) -> str:
    gender, singular, many = _noun(cell, _french_plural)
    if form == "il":
        return ("il", "elle", "ils", "elles")[2 * plural + (gender == "f")]
    noun, before = many if plural else singular, adjective.startswith("^")
    if before:
        forms = _french_adjective(adjective)
        described = forms[2 * plural + (gender == "f")]
        if gender == "m" and not plural and _before_vowel(noun):
            described = forms[4]
        noun = f"{described} {noun}"
    if form == "un" and plural and before:
        form = "de"  # de belles fleurs
    column = 2 if plural else "mf".index(gender)
    determiner = _FRENCH[form][column + 3 * _before_vowel(noun)]
    if adjective and not before:
        noun += " " + _french_adjective(adjective)[2 * plural + (gender == "f")]
    return determiner + noun


_SPANISH = {  # masculine, feminine, their plurals
    "": ("", "", "", ""),
    "el": ("el ", "la ", "los ", "las "),
    "un": ("un ", "una ", "unos ", "unas "),
    "del": ("del ", "de la ", "de los ", "de las "),
    "al": ("al ", "a la ", "a los ", "a las "),
    "este": ("este ", "esta ", "estos ", "estas "),
    "mi": ("mi ", "mi ", "mis ", "mis "),
    "tu": ("tu ", "tu ", "tus ", "tus "),
    "nuestro": ("nuestro ", "nuestra ", "nuestros ", "nuestras "),
    "cuánto": ("cuánto ", "cuánta ", "cuántos ", "cuántas "),
    "mucho": ("mucho ", "mucha ", "muchos ", "muchas "),
}


def _spanish_plural(singular: str, gender: str) -> str:
    if singular.endswith(("ión", "ón", "án", "ín")):
        return singular[:-2] + {"ó": "o", "á": "a", "í": "i"}[singular[-2]] + "nes"
    if singular.endswith("z"):
        return singular[:-1] + "ces"
    return singular + ("s" if singular[-1] in "aeiouáéíóú" else "es")


def _spanish_noun(cell: str, form: str, plural: bool, adjective: str) -> str:
    mark, singular, many = _noun(cell, _spanish_plural)
    gender = mark.replace("a", "f")
    column = 2 * plural + (gender == "f")
    if form == "lo":
        return ("lo", "la", "los", "las")[column]
    if form == "este-":
        return _SPANISH["este"][column].strip()
    noun = many if plural else singular
    article = 0 if mark == "a" and not plural and form in ("el", "un", "del", "al") else column
    described = " " + _spanish_adjective(adjective)[column] if adjective else ""
    return _SPANISH[form][article] + noun + described


_ITALIAN = {  # masculine, feminine, plurals; where lo stands, its plural; before a vowel: m, f
    form: tuple(determiners.split("/"))
    for form, determiners in {
        "": "///////",
        "il": "il /la /i /le /lo /gli /l'/l'",
        "un": "un /una /dei /delle /uno /degli /un /un'",
        "questo": "questo /questa /questi /queste /questo /questi /quest'/quest'",
        "quanto": "quanto /quanta /quanti /quante /quanto /quanti /quanto /quanta ",
    }.items()
}
for _form, _stem in {"del": "de", "al": "a", "nel": "ne", "sul": "su", "dal": "da"}.items():
    _ENDINGS = ("l ", "lla ", "i ", "lle ", "llo ", "gli ", "ll'", "ll'")
    _ITALIAN[_form] = tuple(_stem + ending for ending in _ENDINGS)
_ITALIAN_OWN = {
    f"{preposition}{owner}": (preposition.rstrip("_"), owner)
    for owner in ("mio", "tuo", "nostro")
    for preposition in ("", "di_", "a_")
}


def _italian_plural(singular: str, gender: str) -> str:
    if singular[-1] not in "aeio":
        return singular
    if singular.endswith(("ca", "ga")):
        return singular[:-1] + ("he" if gender == "f" else "hi")
    if singular.endswith(("io", "co", "go")):
        return singular[:-1] + ("" if singular.endswith("io") else "hi")
    return singular[:-1] + ("e" if singular[-1] == "a" and gender == "f" else "i")


def _takes_lo(noun: str) -> bool:
    return noun.startswith(("z", "ps", "gn", "y", "x")) or (
        noun[0] == "s" and noun[1] not in "aeiouàèéìòù"
    )


def _italian_noun(cell: str, form: str, plural: bool, adjective: str) -> str:
    mark, singular, many = _noun(cell, _italian_plural)
    gender = _genders(cell)[plural]
    column = 2 * plural + (gender == "f")
    if form == "lo":
        return ("lo", "la", "li", "le")[column]
    if form == "questo-":
        return _ITALIAN["questo"][column].strip()
    noun = many if plural else singular
    if adjective.startswith("^"):
        noun = _italian_before(_italian_adjective(adjective)[column], noun, gender, plural)
    elif adjective:
        noun += " " + _italian_adjective(adjective)[column]
    if form == "luogo":  # where one goes
        form = "al"
        if mark.endswith("!"):
            return f"in {noun}"
    return _ITALIAN[form][_italian_column(noun, gender, plural)] + noun


def _italian_column(text: str, gender: str, plural: bool) -> int:
    """The column of _ITALIAN that goes before this text."""
    vowel = text[0].lower() in "aeiouèh"
    if gender == "m" and (_takes_lo(text) or (vowel and plural)):
        return 4 + plural
    if vowel and not plural:
        return 6 + (gender == "f")
    return 2 * plural + (gender == "f")


def _italian_before(adjective: str, noun: str, gender: str, plural: bool) -> str:
    """bello before its noun goes like del: bel libro, bello specchio, bei libri, begli alberi."""
    if adjective in ("bello", "belli"):
        forms = ("bel ", "", "bei ", "", "bello ", "begli ", "bell'", "")
        return forms[_italian_column(noun, gender, plural)] + noun
    return f"{adjective} {noun}"


def _italian_own(cell: str, form: str, plural: bool, family: bool) -> str:
    """mia madre but il mio vicino, di mia madre but del mio vicino."""
    preposition, owner = _ITALIAN_OWN[form]
    gender = _genders(cell)[plural]
    column = 2 * plural + (gender == "f")
    stem = owner[:-1]
    owners = (owner, f"{stem}a", {"mi": "miei", "tu": "tuoi"}.get(stem, f"{stem}i"), f"{stem}e")
    noun = f"{owners[column]} {_italian_noun(cell, '', plural, '')}"
    if family and not plural:
        return f"{preposition} {noun}".lstrip()
    article = {"": "il", "di": "del", "a": "al"}[preposition]
    return _ITALIAN[article][column] + noun


_NOUN = {
    "en": _english_noun,
    "de": _german_noun,
    "fr": _french_noun,
    "es": _spanish_noun,
    "it": _italian_noun,
}

# Adjectives: masculine, feminine, their plurals ------------------------------------------------


def _french_adjective(cell: str) -> tuple[str, ...]:
    """A fifth form is the masculine before a vowel: un bel arbre."""
    given = cell.removeprefix("^").split("|")
    if len(given) >= 4:
        return (*given, given[0])[:5]
    masculine = given[0]
    feminine = given[1] if len(given) > 1 else masculine.removesuffix("e") + "e"
    plural = masculine if masculine.endswith(("s", "x")) else f"{masculine}s"
    return masculine, feminine, plural, f"{feminine}s", masculine


def _spanish_adjective(cell: str) -> tuple[str, ...]:
    masculine, _, feminine = cell.partition(" ")[2].partition("|")
    if not feminine:
        feminine = masculine[:-1] + "a" if masculine.endswith("o") else masculine
    return masculine, feminine, _spanish_plural(masculine, "m"), _spanish_plural(feminine, "f")


def _italian_adjective(cell: str) -> tuple[str, ...]:
    masculine, *others = cell.removeprefix("^").split("|")
    if others:
        return masculine, *others
    feminine = masculine[:-1] + "a" if masculine.endswith("o") else masculine
    return masculine, feminine, _italian_plural(masculine, "m"), _italian_plural(feminine, "f")


_ROMANCE = {"fr": _french_adjective, "es": _spanish_adjective, "it": _italian_adjective}


def _english_form(cell: str, form: str) -> str:
    base, _, comparative = cell.partition("|")
    return (comparative or f"more {base}") if form == "comparative" else base


def _german_form(cell: str, form: str) -> str:
    return cell.split("|")[2 if form == "comparative" else 0]


def _spanish_copula(cell: str, form: str) -> str:
    """ser for what a thing is, estar for the state it is in."""
    return _COPULAS[form][cell.startswith("estar")]


_COPULAS = {
    "es": ("es", "está"),
    "son": ("son", "están"),
    "era": ("era", "estaba"),
}
_ADJECTIVE = {"en": _english_form, "de": _german_form, "es": _spanish_copula}

# Verbs ----------------------------------------------------------------------------------------


def _english_verb(cell: str, form: str) -> str:
    base, past = cell.split("|")
    first, space, rest = base.partition(" ")
    return {"": base, "past": past, "s": _english_s(first) + space + rest}[form]


def _german_verb(cell: str, form: str) -> str:
    """`er` and `sep` are the two ends of the clause: er räumt das Zimmer auf."""
    infinitive, finite, participle = cell.split("|")
    er, _, prefix = finite.partition(" ")
    zu = infinitive.removeprefix(prefix).strip()
    zu = f"{prefix} zu {zu}" if " " in infinitive else f"{prefix}zu{zu}" if prefix else f"zu {zu}"
    sep = f" {prefix}" if prefix else ""
    return {"": infinitive, "er": er, "sep": sep, "part": participle, "zu": zu}[form]


def _french_verb(cell: str, form: str) -> str:
    infinitive, il, participle = cell.split("|")
    de = _french_de(infinitive) + infinitive
    return {"": infinitive, "il": il, "part": participle, "de": de}[form]


def _spanish_verb(cell: str, form: str) -> str:
    return dict(zip(("", "él", "pasado1", "pasado3"), cell.split("|"), strict=True))[form]


def _italian_verb(cell: str, form: str) -> str:
    return dict(zip(("", "lui", "part"), cell.split("|"), strict=True))[form]


_VERB = {
    "en": _english_verb,
    "de": _german_verb,
    "fr": _french_verb,
    "es": _spanish_verb,
    "it": _italian_verb,
}
