"""Composes sentences in five languages at once, from templates over the lexicon.

A template names its slots and what may fill each, in order:

  "city"           a word of that kind; several kinds are alternatives
  "@verb"          a noun that the word in slot `verb` takes; the adjective in slot `adj` likewise
  "~thing"         an adjective that goes with the noun in slot `thing`
  "&thing"         a word that shares a kind with the one in slot `thing`
  "!nearest"       that one noun, adjective or phrase; may stand beside kinds
  "... singular"   leaves out what is not counted or stands in the plural
  "... gradable"   leaves out adjectives without degrees

In its five sentences {thing} is the bare word, {thing.den} one of its forms (see the lexicon),
{thing+.den} that form in the plural, {thing.einen adj} the noun with an adjective and {adj=thing}
the adjective alone, agreeing with the noun.
"""

import dataclasses
import functools
import random
import re

from lexicon import Word, agree, render, words

from lightxling.corpus.everyday import LANGUAGES

RETIRES_AFTER = 60  # draws in a row that gave nothing new


@dataclasses.dataclass(frozen=True)
class Template:
    name: str
    slots: dict[str, str]
    en: str
    de: str
    fr: str
    es: str
    it: str


def composed(seed: int):
    """Yields (template name, five texts), no text twice in its language, until nothing is new."""
    rng = random.Random(seed)
    seen = [set() for _ in LANGUAGES]
    live, misses = list(TEMPLATES), dict.fromkeys((t.name for t in TEMPLATES), 0)
    while live:
        template = rng.choice(live)
        filled = _fill(template, rng)
        texts = filled and _texts(template, filled)
        if texts and not any(text in known for text, known in zip(texts, seen, strict=True)):
            for text, known in zip(texts, seen, strict=True):
                known.add(text)
            misses[template.name] = 0
            yield template.name, texts
        else:
            misses[template.name] += 1
            if misses[template.name] == RETIRES_AFTER:
                live.remove(template)


def _fill(template: Template, rng: random.Random) -> dict[str, Word] | None:
    """Draws a word for every slot; None where two slots got the same word or one got none."""
    filled = {}
    for slot, wanted in template.slots.items():
        given = tuple(filled[name[1:]] for name in wanted.split() if name[0] in _TESTS)
        choices = _choices(wanted, given)
        if not choices:
            return None
        word = rng.choice(choices)
        if word in filled.values():
            return None
        filled[slot] = word
    return filled


@functools.cache
def _choices(wanted: str, given: tuple[Word, ...]) -> tuple[Word, ...]:
    """The words that may fill a slot; `given` are the words of the slots it refers to."""
    names = wanted.split()
    others = iter(given)
    tests = [_TESTS[name[0]](next(others)) for name in names if name[0] in _TESTS]
    tests += [_FILTERS[name] for name in names if name in _FILTERS]
    alternatives = {name for name in names if name[0] not in _TESTS and name not in _FILTERS}
    if alternatives:
        tests.append(lambda word: not alternatives.isdisjoint(_names(word)))
    return tuple(word for word in words() if all(test(word) for test in tests))


_TESTS = {
    "@": lambda other: lambda word: word.part == "noun" and other.goes_with(word),
    "~": lambda other: lambda word: word.part == "adjective" and word.goes_with(other),
    "&": lambda other: lambda word: not set(word.kinds).isdisjoint(other.kinds),
}
_FILTERS = {
    "singular": lambda word: word.countable,
    "gradable": lambda word: "g" in word.kinds,
}


def _names(word: Word) -> tuple[str, ...]:
    return word.kinds if word.part == "verb" else (*word.kinds, f"!{word.name}")


def _texts(template: Template, filled: dict[str, Word]) -> tuple[str, ...]:
    return tuple(
        _sentence(_parsed(getattr(template, language)), filled, language) for language in LANGUAGES
    )


@functools.cache
def _parsed(text: str) -> tuple[str | tuple[str, ...], ...]:
    """Literals, and per slot (word, form, adjective) or (adjective, "=", noun)."""
    parts = []
    for i, piece in enumerate(re.split(r"\{(.*?)\}", text)):
        if i % 2 == 0:
            parts.append(piece)
        elif "=" in piece:
            adjective, noun = piece.split("=")
            parts.append((adjective, "=", noun))
        else:
            word, _, form = piece.partition(".")
            form, _, adjective = form.partition(" ")
            if word.endswith("+"):
                word, form = word[:-1], form + "+"
            parts.append((word, form, adjective))
    return tuple(parts)


def _sentence(parts: tuple, filled: dict[str, Word], language: str) -> str:
    pieces = []
    for part in parts:
        if isinstance(part, str):
            pieces.append(part)
        elif part[1] == "=":
            noun = filled[part[2].rstrip("+")]
            pieces.append(agree(filled[part[0]], noun, language, part[2].endswith("+")))
        else:
            word, form, adjective = part
            described = filled[adjective] if adjective else None
            pieces.append(render(filled[word], form, language, described))
    text = "".join(pieces).replace(" .", ".")  # a German clause may have no second half
    start = 1 if text[0] in "¿¡" else 0
    return text[:start] + text[start].upper() + text[start + 1 :]


KIN = "family people"

TEMPLATES = (
    # Doing things
    Template(
        "i_did",
        {"do": "do", "thing": "@do", "past": "past"},
        "I {do.past} the {thing} {past}.",
        "Ich habe {past} {thing.den} {do.part}.",
        "J'ai {do.part} {thing.le} {past}.",
        "{do.pasado1} {thing.el} {past}.",
        "Ho {do.part} {thing.il} {past}.",
    ),
    Template(
        "someone_did",
        {"who": KIN, "do": "do", "thing": "@do", "past": "past"},
        "My {who} {do.past} the {thing} {past}.",
        "{who.mein} hat {past} {thing.den} {do.part}.",
        "{past}, {who.mon} a {do.part} {thing.le}.",
        "{who.mi} {do.pasado3} {thing.el} {past}.",
        "{past} {who.mio} ha {do.part} {thing.il}.",
    ),
    Template(
        "someone_did_not",
        {"who": KIN, "do": "do", "thing": "@do"},
        "My {who} didn't {do} the {thing}.",
        "{who.mein} hat {thing.den} nicht {do.part}.",
        "{who.mon} n'a pas {do.part} {thing.le}.",
        "{who.mi} no {do.pasado3} {thing.el}.",
        "{who.mio} non ha {do.part} {thing.il}.",
    ),
    Template(
        "someone_got_a",
        {"who": KIN, "do": "get", "thing": "@do singular", "adj": "~thing", "past": "past"},
        "My {who} {do.past} {thing.a adj} {past}.",
        "{past} hat {who.mein} {thing.einen adj} {do.part}.",
        "{who.mon} a {do.part} {thing.un adj} {past}.",
        "{past} {who.mi} {do.pasado3} {thing.un adj}.",
        "{who.mio} ha {do.part} {thing.un adj} {past}.",
    ),
    Template(
        "going_to",
        {"do": "do", "thing": "@do", "soon": "soon"},
        "I'm going to {do} the {thing} {soon}.",
        "Ich werde {soon} {thing.den} {do}.",
        "Je vais {do} {thing.le} {soon}.",
        "Voy a {do} {thing.el} {soon}.",
        "Ho intenzione di {do} {thing.il} {soon}.",
    ),
    Template(
        "still_have_to",
        {"do": "do", "thing": "@do"},
        "We still have to {do} the {thing}.",
        "Wir müssen noch {thing.den} {do}.",
        "Nous devons encore {do} {thing.le}.",
        "Todavía tenemos que {do} {thing.el}.",
        "Dobbiamo ancora {do} {thing.il}.",
    ),
    Template(
        "who_did",
        {"do": "do theft", "thing": "@do"},
        "Who {do.past} the {thing}?",
        "Wer hat {thing.den} {do.part}?",
        "Qui a {do.part} {thing.le} ?",
        "¿Quién {do.pasado3} {thing.el}?",
        "Chi ha {do.part} {thing.il}?",
    ),
    Template(
        "when_did_you",
        {"do": "do", "thing": "@do"},
        "When did you {do} the {thing}?",
        "Wann haben Sie {thing.den} {do.part}?",
        "Quand avez-vous {do.part} {thing.le} ?",
        "¿Cuándo {do.pasado3} usted {thing.el}?",
        "Quando ha {do.part} {thing.il}?",
    ),
    Template(
        "could_you_please",
        {"do": "chore paper tech study", "thing": "@do"},
        "Could you {do} the {thing}, please?",
        "Könnten Sie bitte {thing.den} {do}?",
        "Pourriez-vous {do} {thing.le}, s'il vous plaît ?",
        "¿Podría {do} {thing.el}, por favor?",
        "Potrebbe {do} {thing.il}, per favore?",
    ),
    Template(
        "do_not_forget",
        {"do": "chore paper tech shop", "thing": "@do"},
        "Don't forget to {do} the {thing}.",
        "Vergiss nicht, {thing.den} {do.zu}.",
        "N'oublie pas {do.de} {thing.le}.",
        "No olvides {do} {thing.el}.",
        "Non dimenticare di {do} {thing.il}.",
    ),
    Template(
        "every_day_of_the_week",
        {"who": KIN, "do": "weekly", "thing": "@do", "day": "day"},
        "My {who} {do.s} the {thing} every {day}.",
        "{who.mein} {do.er} jeden {day} {thing.den}{do.sep}.",
        "{who.mon} {do.il} {thing.le} chaque {day}.",
        "Cada {day} {who.mi} {do.él} {thing.el}.",
        "Ogni {day} {who.mio} {do.lui} {thing.il}.",
    ),
    Template(
        "where_can_i",
        {"do": "acquire", "thing": "@do singular"},
        "Where can I {do} {thing.a}?",
        "Wo kann ich {thing.einen} {do}?",
        "Où est-ce que je peux {do} {thing.un} ?",
        "¿Dónde puedo {do} {thing.un}?",
        "Dove posso {do} {thing.un}?",
    ),
    Template(
        "wants_to",
        {"who": KIN, "do": "get", "thing": "@do singular", "adj": "~thing"},
        "My {who} wants to {do} {thing.a adj}.",
        "{who.mein} will {thing.einen adj} {do}.",
        "{who.mon} veut {do} {thing.un adj}.",
        "{who.mi} quiere {do} {thing.un adj}.",
        "{who.mio} vuole {do} {thing.un adj}.",
    ),
    Template(
        "while_someone",
        {"who": KIN, "then": "then", "do": "chore paper tech study", "thing": "@do"},
        "While my {who} was {then}, I {do.past} the {thing}.",
        "Während {who.mein} {then}, habe ich {thing.den} {do.part}.",
        "Pendant que {who.mon} {then}, j'ai {do.part} {thing.le}.",
        "Mientras {who.mi} {then}, {do.pasado1} {thing.el}.",
        "Mentre {who.mio} {then}, ho {do.part} {thing.il}.",
    ),
    Template(
        "before_the_event",
        {"do": "chore paper study", "thing": "@do", "event": "event"},
        "You should {do} the {thing} before the {event}.",
        "Du solltest {thing.den} vor {event.dem} {do}.",
        "Tu devrais {do} {thing.le} avant {event.le}.",
        "Deberías {do} {thing.el} antes {event.del}.",
        "Dovresti {do} {thing.il} prima {event.del}.",
    ),
    # Things and how they are
    Template(
        "is_very",
        {
            "thing": "clothes furniture device vehicle home gift item nature place dish media "
            "show event matter homework fruit animal transit food drink meal",
            "adj": "~thing gradable",
        },
        "The {thing} is very {adj=thing}.",
        "{thing.der} ist sehr {adj=thing}.",
        "{thing.le} est très {adj=thing}.",
        "{thing.el} {adj.es} muy {adj=thing}.",
        "{thing.il} è molto {adj=thing}.",
    ),
    Template(
        "this_is_not",
        {"adj": "g s c", "thing": "@adj singular"},
        "This {thing} isn't {adj=thing}.",
        "{thing.dieser} ist nicht {adj=thing}.",
        "{thing.ce} n'est pas {adj=thing}.",
        "{thing.este} no {adj.es} {adj=thing}.",
        "{thing.questo} non è {adj=thing}.",
    ),
    Template(
        "are_too",
        {
            "thing": "clothes furniture vehicle home gift item nature fruit animal pair document "
            "media homework kitchen singular",
            "adj": "~thing excess",
        },
        "The {thing+} are too {adj=thing}.",
        "{thing+.der} sind zu {adj=thing}.",
        "{thing+.le} sont trop {adj=thing+}.",
        "{thing+.el} {adj.son} demasiado {adj=thing+}.",
        "{thing+.il} sono troppo {adj=thing+}.",
    ),
    Template(
        "is_more_than",
        {"adj": "g", "thing": "@adj singular", "other": "@adj &thing singular"},
        "The {thing} is {adj.comparative} than the {other}.",
        "{thing.der} ist {adj.comparative} als {other.der}.",
        "{thing.le} est plus {adj=thing} que {other.le}.",
        "{thing.el} {adj.es} más {adj=thing} que {other.el}.",
        "{thing.il} è più {adj=thing} {other.del}.",
    ),
    Template(
        "not_as_as",
        {"adj": "g", "thing": "@adj singular", "other": "@adj &thing singular"},
        "The {thing} isn't as {adj=thing} as the {other}.",
        "{thing.der} ist nicht so {adj=thing} wie {other.der}.",
        "{thing.le} n'est pas aussi {adj=thing} que {other.le}.",
        "{thing.el} no {adj.es} tan {adj=thing} como {other.el}.",
        "{thing.il} non è {adj=thing} come {other.il}.",
    ),
    Template(
        "if_it_is_too",
        {"do": "shop", "thing": "@do singular", "adj": "~thing excess"},
        "If the {thing} is too {adj=thing}, we won't buy it.",
        "Wenn {thing.der} zu {adj=thing} ist, kaufen wir {thing.ihn} nicht.",
        "Si {thing.le} est trop {adj=thing}, nous ne l'achèterons pas.",
        "Si {thing.el} {adj.es} demasiado {adj=thing}, no {thing.lo} compraremos.",
        "Se {thing.il} è troppo {adj=thing}, non {thing.lo} compreremo.",
    ),
    Template(
        "did_because_it_was",
        {"do": "get", "thing": "@do singular", "adj": "~thing gradable"},
        "I {do.past} the {thing} because it was {adj=thing}.",
        "Ich habe {thing.den} {do.part}, weil {thing.er} {adj=thing} war.",
        "J'ai {do.part} {thing.le} parce qu'{thing.il} était {adj=thing}.",
        "{do.pasado1} {thing.el} porque {adj.era} {adj=thing}.",
        "Ho {do.part} {thing.il} perché era {adj=thing}.",
    ),
    Template(
        "never_seen_such",
        {"thing": "animal nature home place gift furniture", "adj": "~thing gradable"},
        "I have never seen such {thing.a adj}.",
        "Ich habe noch nie so {thing.einen adj} gesehen.",
        "Je n'ai jamais vu {thing.un} aussi {adj=thing}.",
        "Nunca he visto {thing.un} tan {adj=thing}.",
        "Non ho mai visto {thing.un} così {adj=thing}.",
    ),
    Template(
        "whose_is",
        {"thing": "item clothes gift vehicle gadget media", "who": KIN},
        "The {thing} belongs to my {who}.",
        "{thing.der} gehört {who.meinem}.",
        "{thing.le} appartient à {who.mon}.",
        "{thing.el} es de {who.mi}.",
        "{thing.il} è {who.di_mio}.",
    ),
    Template(
        "someones_thing_is",
        {"who": KIN, "adj": "g s c", "thing": "@adj clothes home item vehicle gadget pet singular"},
        "My {who}'s {thing} is {adj=thing}.",
        "{thing.der} von {who.meinem} ist {adj=thing}.",
        "{thing.le} de {who.mon} est {adj=thing}.",
        "{thing.el} de {who.mi} {adj.es} {adj=thing}.",
        "{thing.il} {who.di_mio} è {adj=thing}.",
    ),
    Template(
        "is_this_your",
        {"thing": "item clothes gift vehicle gadget kitchen linen"},
        "Is this your {thing}?",
        "Ist das {thing.dein}?",
        "C'est {thing.ton} ?",
        "¿Es {thing.este-} {thing.tu}?",
        "È {thing.questo-} {thing.tuo}?",
    ),
    Template(
        "where_is_i_do_not_know",
        {"thing": "item clothes document gift kitchen linen place pet gadget"},
        "I don't know where the {thing} is.",
        "Ich weiß nicht, wo {thing.der} ist.",
        "Je ne sais pas où est {thing.le}.",
        "No sé dónde está {thing.el}.",
        "Non so dove sia {thing.il}.",
    ),
    Template(
        "put_it_on",
        {"thing": "item kitchen document linen gadget !book !newspaper", "on": "surface"},
        "Please put the {thing} on the {on}.",
        "Leg {thing.den} bitte auf {on.den}.",
        "Mets {thing.le} sur {on.le}, s'il te plaît.",
        "Pon {thing.el} en {on.el}, por favor.",
        "Per favore, metti {thing.il} {on.sul}.",
    ),
    Template(
        "sleeping_under",
        {"pet": "pet", "under": "surface"},
        "The {pet} is sleeping under the {under}.",
        "{pet.der} schläft unter {under.dem}.",
        "{pet.le} dort sous {under.le}.",
        "{pet.el} duerme debajo {under.del}.",
        "{pet.il} dorme sotto {under.il}.",
    ),
    Template(
        "there_is_in_the_room",
        {"thing": "furniture gift pet", "adj": "~thing", "room": "indoors !garden"},
        "There is {thing.a adj} in the {room}.",
        "{room.im} gibt es {thing.einen adj}.",
        "Il y a {thing.un adj} dans {room.le}.",
        "Hay {thing.un adj} en {room.el}.",
        "C'è {thing.un adj} {room.nel}.",
    ),
    Template(
        "how_many",
        {"thing": "furniture part kitchen item gift linen", "room": "indoors home"},
        "How many {thing+} are there in the {room}?",
        "Wie viele {thing+} gibt es {room.im}?",
        "Combien {thing+.de} y a-t-il dans {room.le} ?",
        "¿{thing+.cuánto} hay en {room.el}?",
        "{thing+.quanto} ci sono {room.nel}?",
    ),
    Template(
        "we_need_several",
        {"number": "number", "thing": "fruit food1 kitchen furniture linen pair item"},
        "We need {number} {thing+}.",
        "Wir brauchen {number} {thing+}.",
        "Nous avons besoin de {number} {thing+}.",
        "Necesitamos {number} {thing+}.",
        "Abbiamo bisogno di {number} {thing+}.",
    ),
    # Shopping and food
    Template(
        "how_much_is",
        {
            "thing": "clothes furniture appliance gadget vehicle item gift linen singular",
            "adj": "~thing",
        },
        "How much is the {adj=thing} {thing}?",
        "Wie viel kostet {thing.der adj}?",
        "Combien coûte {thing.le adj} ?",
        "¿Cuánto cuesta {thing.el adj}?",
        "Quanto costa {thing.il adj}?",
    ),
    Template(
        "costs",
        {"thing": "clothes furniture appliance gadget item gift", "price": "price amount"},
        "The {thing} costs {price} euros.",
        "{thing.der} kostet {price} Euro.",
        "{thing.le} coûte {price} euros.",
        "{thing.el} cuesta {price} euros.",
        "{thing.il} costa {price} euro.",
    ),
    Template(
        "do_you_have_it_in",
        {"thing": "clothes", "other": "color size"},
        "Do you have this {thing} in {other}?",
        "Haben Sie {thing.diesen} in {other}?",
        "Avez-vous {thing.ce} {other} ?",
        "¿Tiene {thing.este} en {other}?",
        "Ha {thing.questo} in {other}?",
    ),
    Template(
        "try_on",
        {"adj": "g c", "thing": "@adj clothes singular"},
        "Can I try on the {adj=thing} {thing}?",
        "Kann ich {thing.den adj} anprobieren?",
        "Je peux essayer {thing.le adj} ?",
        "¿Puedo probarme {thing.el adj}?",
        "Posso provare {thing.il adj}?",
    ),
    Template(
        "is_wearing",
        {"who": "public", "adj": "g c", "thing": "@adj clothes singular"},
        "The {who} is wearing {thing.a adj}.",
        "{who.der} trägt {thing.einen adj}.",
        "{who.le} porte {thing.un adj}.",
        "{who.el} lleva {thing.un adj}.",
        "{who.il} indossa {thing.un adj}.",
    ),
    Template(
        "gave_as_a_present",
        {
            "who": KIN,
            "thing": "gift clothes gadget !book !ring !watch !handbag !backpack",
            "adj": "~thing",
        },
        "I gave my {who} {thing.a adj}.",
        "Ich habe {who.meinem} {thing.einen adj} geschenkt.",
        "J'ai offert {thing.un adj} à {who.mon}.",
        "Le regalé {thing.un adj} a {who.mi}.",
        "Ho regalato {thing.un adj} {who.a_mio}.",
    ),
    Template(
        "none_left",
        {"food": "food drink"},
        "We have no {food} left.",
        "Wir haben {food.keinen} mehr.",
        "Nous n'avons plus {food.de}.",
        "Ya no nos queda {food}.",
        "Non abbiamo più {food}.",
    ),
    Template(
        "a_little_more",
        {"food": "food drink"},
        "Would you like a little more {food}?",
        "Möchten Sie noch etwas {food}?",
        "Voulez-vous encore un peu {food.de} ?",
        "¿Quiere un poco más de {food}?",
        "Vuole ancora un po' di {food}?",
    ),
    Template(
        "dish_with",
        {"dish": "savoury", "side": "side", "drink": "drink"},
        "I'd like {dish.a} with {side} and some {drink}.",
        "Ich hätte gern {dish.einen} mit {side} und etwas {drink}.",
        "Je voudrais {dish.un} avec {side.du} et {drink.du}.",
        "Quisiera {dish.un} con {side} y un poco de {drink}.",
        "Vorrei {dish.un} con {side} e un po' di {drink}.",
    ),
    Template(
        "add_to",
        {"food": "spice", "mix": "mix"},
        "Add a little {food} to the {mix}.",
        "Geben Sie etwas {food} {mix.zum}.",
        "Ajoutez un peu {food.de} {mix.au}.",
        "Añada un poco de {food} {mix.al}.",
        "Aggiunga un po' di {food} {mix.al}.",
    ),
    Template(
        "do_you_prefer",
        {"one": "side drink", "other": "side drink &one"},
        "Do you prefer {one} or {other}?",
        "Mögen Sie lieber {one} oder {other}?",
        "Préférez-vous {one.le} ou {other.le} ?",
        "¿Prefiere {one.el} o {other.el}?",
        "Preferisce {one.il} o {other.il}?",
    ),
    Template(
        "does_not_like",
        {"who": KIN, "food": "food drink"},
        "My {who} doesn't like {food}.",
        "{who.mein} mag {food.keinen}.",
        "{who.mon} n'aime pas {food.le}.",
        "A {who.mi} no le gusta {food.el}.",
        "{who.a_mio} non piace {food.il}.",
    ),
    Template(
        "thank_you_for",
        {"thing": "meal dish !letter !message !book !trip !party gift"},
        "Thank you very much for the {thing}.",
        "Vielen Dank für {thing.den}.",
        "Merci beaucoup pour {thing.le}.",
        "Muchas gracias por {thing.el}.",
        "Grazie mille per {thing.il}.",
    ),
    # People
    Template(
        "was_and_when",
        {"who": KIN, "adj": "h", "past": "past"},
        "My {who} was very {adj=who} {past}.",
        "{who.mein} war {past} sehr {adj=who}.",
        "{past}, {who.mon} était très {adj=who}.",
        "{past} {who.mi} estaba muy {adj=who}.",
        "{past} {who.mio} era molto {adj=who}.",
    ),
    Template(
        "the_person_is",
        {"who": "public", "adj": "h m"},
        "The {who} is very {adj=who}.",
        "{who.der} ist sehr {adj=who}.",
        "{who.le} est très {adj=who}.",
        "{who.el} {adj.es} muy {adj=who}.",
        "{who.il} è molto {adj=who}.",
    ),
    Template(
        "more_than_my",
        {"who": KIN, "adj": "m", "other": KIN},
        "My {who} is {adj.comparative} than my {other}.",
        "{who.mein} ist {adj.comparative} als {other.mein}.",
        "{who.mon} est plus {adj=who} que {other.mon}.",
        "{who.mi} es más {adj=who} que {other.mi}.",
        "{who.mio} è più {adj=who} {other.di_mio}.",
    ),
    Template(
        "works_as",
        {"who": "male", "job": "job", "city": "city"},
        "My {who} works as {job.a} in {city}.",
        "{who.mein} arbeitet als {job} in {city}.",
        "{who.mon} travaille comme {job} à {city}.",
        "{who.mi} trabaja de {job} en {city}.",
        "{who.mio} lavora come {job} {city.a}.",
    ),
    Template(
        "wants_to_become",
        {"who": "male", "job": "job"},
        "My {who} would like to become {job.a}.",
        "{who.mein} möchte {job} werden.",
        "{who.mon} aimerait devenir {job}.",
        "A {who.mi} le gustaría ser {job}.",
        "{who.mio} vorrebbe diventare {job}.",
    ),
    Template(
        "has_lived_in",
        {"who": KIN, "city": "city", "number": "number amount"},
        "My {who} has lived in {city} for {number} years.",
        "{who.mein} wohnt seit {number} Jahren in {city}.",
        "{who.mon} habite à {city} depuis {number} ans.",
        "{who.mi} vive en {city} desde hace {number} años.",
        "{who.mio} vive {city.a} da {number} anni.",
    ),
    Template(
        "does_someone_speak",
        {"who": KIN, "language": "language"},
        "Does your {who} speak {language}?",
        "Spricht {who.dein} {language}?",
        "Est-ce que {who.ton} parle {language} ?",
        "¿{who.tu} habla {language}?",
        "{who.tuo} parla {language}?",
    ),
    Template(
        "met_someone",
        {"verb": "who", "who": KIN, "past": "past"},
        "I {verb.past} my {who} {past}.",
        "Ich habe {past} {who.meinen} {verb.part}.",
        "J'ai {verb.part} {who.mon} {past}.",
        "{past} {verb.pasado1} a {who.mi}.",
        "{past} ho {verb.part} {who.mio}.",
    ),
    Template(
        "must_someone",
        {"verb": "who", "who": KIN, "soon": "soon"},
        "{soon} I have to {verb} my {who}.",
        "{soon} muss ich {who.meinen} {verb}.",
        "{soon}, je dois {verb} {who.mon}.",
        "{soon} tengo que {verb} a {who.mi}.",
        "{soon} devo {verb} {who.mio}.",
    ),
    Template(
        "did_the_person",
        {"who": "public", "verb": "who", "other": "public"},
        "Why did the {who} {verb} the {other}?",
        "Warum hat {who.der} {other.den} {verb.part}?",
        "Pourquoi {who.le} a-t-{who.il} {verb.part} {other.le} ?",
        "¿Por qué {verb.pasado3} {who.el} {other.al}?",
        "Perché {who.il} ha {verb.part} {other.il}?",
    ),
    Template(
        "promised",
        {"who": KIN, "act": "act"},
        "I promised my {who} I would {act}.",
        "Ich habe {who.meinem} versprochen, {act.2}.",
        "J'ai promis à {who.mon} {act.de}.",
        "Le prometí a {who.mi} {act}.",
        "Ho promesso {who.a_mio} di {act}.",
    ),
    Template(
        "meeting_someone",
        {"who": KIN, "soon": "daylong", "clock": "clock"},
        "I'm meeting my {who} {soon} {clock}.",
        "Ich treffe {who.meinen} {soon} {clock}.",
        "Je retrouve {who.mon} {soon} {clock}.",
        "He quedado con {who.mi} {soon} {clock}.",
        "Incontro {who.mio} {soon} {clock}.",
    ),
    Template(
        "birthday",
        {"who": KIN, "month": "month"},
        "My {who}'s birthday is {month}.",
        "{who.mein} hat {month} Geburtstag.",
        "L'anniversaire de {who.mon} est {month}.",
        "El cumpleaños de {who.mi} es {month}.",
        "Il compleanno {who.di_mio} è {month}.",
    ),
    Template(
        "pet_age",
        {"pet": "pet !horse !cow !goat", "number": "number"},
        "Our {pet} is {number} years old.",
        "{pet.unser} ist {number} Jahre alt.",
        "{pet.notre} a {number} ans.",
        "{pet.nuestro} tiene {number} años.",
        "{pet.nostro} ha {number} anni.",
    ),
    # Getting around
    Template(
        "nearest",
        {"place": "place", "adj": "!nearest"},
        "Where is the nearest {place}?",
        "Wo ist {place.der adj}?",
        "Où est {place.le adj} ?",
        "¿Dónde está {place.el adj}?",
        "Dov'è {place.il adj}?",
    ),
    Template(
        "minutes_away",
        {"place": "place", "number": "number amount", "from": "place !house !flat"},
        "The {place} is {number} minutes from the {from}.",
        "{place.der} ist {number} Minuten {from.vom} entfernt.",
        "{place.le} est à {number} minutes {from.du}.",
        "{place.el} está a {number} minutos {from.del}.",
        "{place.il} è a {number} minuti {from.dal}.",
    ),
    Template(
        "near_the",
        {"place": "place", "near": "place"},
        "Is there {place.a} near the {near}?",
        "Gibt es {place.einen} in der Nähe {near.vom}?",
        "Y a-t-il {place.un} près {near.du} ?",
        "¿Hay {place.un} cerca {near.del}?",
        "C'è {place.un} vicino {near.al}?",
    ),
    Template(
        "turn_after",
        {"place": "place", "next": "place"},
        "Turn left after the {place}; the {next} is on the right.",
        "Biegen Sie nach {place.dem} links ab, {next.der} ist rechts.",
        "Tournez à gauche après {place.le}, {next.le} est à droite.",
        "Gire a la izquierda después {place.del}; {next.el} está a la derecha.",
        "Giri a sinistra dopo {place.il}, {next.il} è a destra.",
    ),
    Template(
        "how_do_i_get_to",
        {"place": "place"},
        "Excuse me, how do I get to the {place}?",
        "Entschuldigung, wie komme ich {place.zum}?",
        "Excusez-moi, comment aller {place.au} ?",
        "Perdone, ¿cómo llego {place.al}?",
        "Scusi, come arrivo {place.al}?",
    ),
    Template(
        "meet_in_front_of",
        {"place": "place", "clock": "clock", "soon": "daylong"},
        "We're meeting {soon} {clock} in front of the {place}.",
        "Wir treffen uns {soon} {clock} vor {place.dem}.",
        "Nous nous retrouvons {soon} {clock} devant {place.le}.",
        "Nos vemos {soon} {clock} delante {place.del}.",
        "Ci vediamo {soon} {clock} davanti {place.al}.",
    ),
    Template(
        "going_to_the_place",
        {"place": "hours out", "soon": "soon"},
        "We're going to the {place} {soon}.",
        "Wir gehen {soon} {place.zum}.",
        "Nous allons {place.au} {soon}.",
        "Vamos {place.al} {soon}.",
        "Andiamo {place.luogo} {soon}.",
    ),
    Template(
        "went_to_the_place",
        {"who": KIN, "place": "hours out", "past": "past", "gone": "!gone"},
        "{past} my {who} went to the {place}.",
        "{past} ist {who.mein} {place.zum} gegangen.",
        "{past}, {who.mon} est {gone=who} {place.au}.",
        "{past} {who.mi} fue {place.al}.",
        "{past} {who.mio} è {gone=who} {place.luogo}.",
    ),
    Template(
        "opening_hours",
        {"place": "hours", "day": "day", "clock": "clock"},
        "On {day} the {place} opens {clock}.",
        "Am {day} öffnet {place.der} {clock}.",
        "Le {day}, {place.le} ouvre {clock}.",
        "El {day} {place.el} abre {clock}.",
        "{day} {place.il} apre {clock}.",
    ),
    Template(
        "closed_on",
        {"place": "hours", "day": "day", "adj": "!closed"},
        "Is the {place} closed on {day}?",
        "Ist {place.der} am {day} geschlossen?",
        "Est-ce que {place.le} est {adj=place} le {day} ?",
        "¿Está {adj=place} {place.el} el {day}?",
        "{place.il} è {adj=place} di {day}?",
    ),
    Template(
        "left_it_in",
        {"thing": "item !jacket !coat !hat !scarf !cap", "place": "building !taxi"},
        "I left my {thing} in the {place}.",
        "Ich habe {thing.meinen} {place.im} vergessen.",
        "J'ai oublié {thing.mon} dans {place.le}.",
        "He olvidado {thing.mi} en {place.el}.",
        "Ho dimenticato {thing.mio} {place.nel}.",
    ),
    Template(
        "departs",
        {"transit": "transit", "city": "city", "clock": "clock"},
        "The {transit} to {city} leaves {clock}.",
        "{transit.der} nach {city} fährt {clock} ab.",
        "{transit.le} pour {city} part {clock}.",
        "{transit.el} a {city} sale {clock}.",
        "{transit.il} per {city} parte {clock}.",
    ),
    Template(
        "is_late",
        {"transit": "transit", "city": "city", "number": "number amount"},
        "The {transit} from {city} is {number} minutes late.",
        "{transit.der} aus {city} hat {number} Minuten Verspätung.",
        "{transit.le} {city.de} a {number} minutes de retard.",
        "{transit.el} de {city} lleva {number} minutos de retraso.",
        "{transit.il} da {city} ha {number} minuti di ritardo.",
    ),
    Template(
        "tickets_to",
        {"number": "number", "city": "city", "date": "date"},
        "I'd like {number} tickets to {city} for {date}.",
        "Ich hätte gern für {date} {number} Fahrkarten nach {city}.",
        "Je voudrais pour {date} {number} billets pour {city}.",
        "Quisiera {number} billetes a {city} para {date}.",
        "Vorrei per {date} {number} biglietti per {city}.",
    ),
    Template(
        "flying_in",
        {"city": "city", "month": "month", "who": KIN},
        "{month} I'm flying to {city} with my {who}.",
        "{month} fliege ich mit {who.meinem} nach {city}.",
        "{month}, je prends l'avion pour {city} avec {who.mon}.",
        "{month} vuelo a {city} con {who.mi}.",
        "{month} volo {city.a} con {who.mio}.",
    ),
    Template(
        "holidays",
        {"who": KIN, "where": "in_country", "season": "season"},
        "My {who} spends the holidays {where} {season}.",
        "{who.mein} verbringt den Urlaub {season} {where}.",
        "{season}, {who.mon} passe les vacances {where}.",
        "{season} {who.mi} pasa las vacaciones {where}.",
        "{season} {who.mio} passa le vacanze {where}.",
    ),
    # Health, weather, news, technology, school, leisure
    Template(
        "hurts",
        {"body": "body", "number": "number"},
        "My {body} has been hurting for {number} days.",
        "Mir tut seit {number} Tagen {body.der} weh.",
        "J'ai mal {body.au} depuis {number} jours.",
        "Me duele {body.el} desde hace {number} días.",
        "Mi fa male {body.il} da {number} giorni.",
    ),
    Template(
        "is_ill",
        {"who": KIN, "ill": "ill", "day": "day"},
        "My {who} has had {ill} since {day}.",
        "{who.mein} hat seit {day} {ill}.",
        "{who.mon} a {ill} depuis {day}.",
        "{who.mi} tiene {ill} desde el {day}.",
        "{who.mio} ha {ill} da {day}.",
    ),
    Template(
        "doctor_says",
        {"who": KIN, "advice": "advice"},
        "The doctor says that my {who} should {advice}.",
        "Der Arzt sagt, dass {who.mein} {advice} sollte.",
        "Le médecin dit que {who.mon} devrait {advice}.",
        "El médico dice que {who.mi} debería {advice}.",
        "Il medico dice che {who.mio} dovrebbe {advice}.",
    ),
    Template(
        "will_the_weather",
        {"soon": "soon", "weather": "weather", "city": "city"},
        "It will {weather} in {city} {soon}.",
        "{soon} {weather} in {city} {weather.2}.",
        "{soon}, {weather} à {city}.",
        "{soon} {weather} en {city}.",
        "{soon} {weather} {city.a}.",
    ),
    Template(
        "the_weather_was",
        {"past": "past", "weather": "weather_was", "city": "city"},
        "{past} {weather} in {city}.",
        "{past} {weather} in {city} {weather.2}.",
        "{past}, {weather} à {city}.",
        "{past} {weather} en {city}.",
        "{past} {weather} {city.a}.",
    ),
    Template(
        "degrees",
        {"city": "city", "number": "warmth", "soon": "soon"},
        "The temperature in {city} will be {number} degrees {soon}.",
        "Die Temperatur in {city} beträgt {soon} {number} Grad.",
        "La température à {city} sera de {number} degrés {soon}.",
        "La temperatura en {city} será de {number} grados {soon}.",
        "La temperatura {city.a} sarà di {number} gradi {soon}.",
    ),
    Template(
        "if_then_we",
        {"if": "if", "will": "will"},
        "If {if}, we'll {will}.",
        "Wenn {if}, {will}.",
        "{if}, {will}.",
        "Si {if}, {will}.",
        "Se {if}, {will}.",
    ),
    Template(
        "in_the_news",
        {"news": "news", "announce": "announce", "past": "past"},
        "The {news} {announce} {past}.",
        "{news.der} {announce} {past} {announce.2}.",
        "{past}, {news.le} {announce}.",
        "{news.el} {announce} {past}.",
        "{past} {news.il} {announce}.",
    ),
    Template(
        "in_politics",
        {"news": "politics", "policy": "policy", "past": "past"},
        "{past} the {news} {policy}.",
        "{past} {policy} {news.der} {policy.2}.",
        "{news.le} {policy} {past}.",
        "{past} {news.el} {policy}.",
        "{news.il} {policy} {past}.",
    ),
    Template(
        "keeps_rising",
        {"prices": "prices", "city": "city"},
        "In {city} {prices} keeps rising.",
        "In {city} steigt {prices} weiter.",
        "À {city}, {prices} continue d'augmenter.",
        "En {city} sigue subiendo {prices}.",
        "{city.a} {prices} continua ad aumentare.",
    ),
    Template(
        "does_not_work",
        {"device": "device", "day": "day"},
        "My {device} hasn't been working since {day}.",
        "{device.mein} funktioniert seit {day} nicht mehr.",
        "{device.mon} ne marche plus depuis {day}.",
        "{device.mi} no funciona desde el {day}.",
        "{device.mio} non funziona più da {day}.",
    ),
    Template(
        "starts_at",
        {"event": "event", "day": "day", "clock": "clock"},
        "The {event} starts on {day} {clock}.",
        "{event.der} beginnt am {day} {clock}.",
        "{event.le} commence {day} {clock}.",
        "{event.el} empieza el {day} {clock}.",
        "{event.il} comincia {day} {clock}.",
    ),
    Template(
        "lasts",
        {"event": "event !film !football_match !documentary", "number": "number"},
        "The {event} lasts {number} hours.",
        "{event.der} dauert {number} Stunden.",
        "{event.le} dure {number} heures.",
        "{event.el} dura {number} horas.",
        "{event.il} dura {number} ore.",
    ),
    Template(
        "call_after",
        {"event": "event meal", "who": KIN},
        "After the {event} I'll call my {who}.",
        "Nach {event.dem} rufe ich {who.meinen} an.",
        "Après {event.le}, j'appellerai {who.mon}.",
        "Después {event.del} llamaré a {who.mi}.",
        "Dopo {event.il} chiamerò {who.mio}.",
    ),
    Template(
        "we_have_class",
        {"subject": "subject", "day": "day", "clock": "clock"},
        "We have {subject} on {day} {clock}.",
        "Am {day} haben wir {clock} {subject}.",
        "Le {day}, nous avons cours {subject.de} {clock}.",
        "El {day} tenemos clase de {subject} {clock}.",
        "{day} abbiamo lezione di {subject} {clock}.",
    ),
    Template(
        "teaches",
        {"who": KIN, "subject": "subject"},
        "My {who} teaches {subject} at our school.",
        "{who.mein} unterrichtet {subject} an unserer Schule.",
        "{who.mon} enseigne {subject.le} dans notre école.",
        "{who.mi} enseña {subject} en nuestra escuela.",
        "{who.mio} insegna {subject} nella nostra scuola.",
    ),
    Template(
        "do_you_want_to",
        {"act": "act", "soon": "soon"},
        "Do you want to {act} {soon}?",
        "Willst du {soon} {act}?",
        "Tu veux {act} {soon} ?",
        "¿Quieres {act} {soon}?",
        "Vuoi {act} {soon}?",
    ),
    Template(
        "has_no_time_to",
        {"who": KIN, "soon": "soon", "act": "act"},
        "{soon} my {who} has no time to {act}.",
        "{soon} hat {who.mein} keine Zeit, {act.2}.",
        "{soon}, {who.mon} n'a pas le temps {act.de}.",
        "{soon} {who.mi} no tiene tiempo para {act}.",
        "{soon} {who.mio} non ha tempo di {act}.",
    ),
    Template(
        "rather_than",
        {"who": KIN, "act": "act", "other": "act"},
        "My {who} would rather {act} than {other}.",
        "{who.mein} möchte lieber {act} als {other}.",
        "{who.mon} préfère {act} plutôt que {other.de}.",
        "{who.mi} prefiere {act} a {other}.",
        "{who.mio} preferisce {act} piuttosto che {other}.",
    ),
    Template(
        "habit",
        {"who": KIN, "day": "day", "habit": "habit"},
        "My {who} {habit} every {day}.",
        "{who.mein} {habit} jeden {day} {habit.2}.",
        "Chaque {day}, {who.mon} {habit}.",
        "Cada {day} {who.mi} {habit}.",
        "Ogni {day} {who.mio} {habit}.",
    ),
)
