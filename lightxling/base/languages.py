"""Language codes, as sources, names of files and lines of text write them."""

import collections
import re
from collections.abc import Sequence

CODE = r"[a-z]{2,3}(?:_[A-Za-z0-9]+)*"
"""Pattern of a code: two or three letters, then perhaps script and region (zh_Hans, es_419)."""

_TWO_LETTERS = (
    "aar:aa abk:ab afr:af aka:ak alb:sq als:sq amh:am ara:ar arb:ar arg:an arm:hy asm:as ava:av "
    "ave:ae aym:ay aze:az azj:az bak:ba bam:bm baq:eu bel:be ben:bn bis:bi bod:bo bos:bs bre:br "
    "bul:bg bur:my cat:ca ces:cs cha:ch che:ce chi:zh chu:cu chv:cv cmn:zh cor:kw cos:co cre:cr "
    "cym:cy cze:cs dan:da deu:de div:dv dut:nl dzo:dz ekk:et ell:el eng:en epo:eo est:et eus:eu "
    "ewe:ee fao:fo fas:fa fij:fj fil:tl fin:fi fra:fr fre:fr fry:fy ful:ff gaz:om geo:ka ger:de "
    "gla:gd gle:ga glg:gl glv:gv gre:el grn:gn guj:gu hat:ht hau:ha hbs:sh heb:he her:hz hin:hi "
    "hmo:ho hrv:hr hun:hu hye:hy ibo:ig ice:is ido:io iii:ii iku:iu ile:ie ina:ia ind:id ipk:ik "
    "isl:is ita:it jav:jv jpn:ja kal:kl kan:kn kas:ks kat:ka kau:kr kaz:kk khk:mn khm:km kik:ki "
    "kin:rw kir:ky kmr:ku kom:kv kon:kg kor:ko kua:kj kur:ku lao:lo lat:la lav:lv lim:li lin:ln "
    "lit:lt ltz:lb lub:lu lug:lg lvs:lv mac:mk mah:mh mal:ml mao:mi mar:mr may:ms mkd:mk mlg:mg "
    "mlt:mt mon:mn mri:mi msa:ms mya:my nau:na nav:nv nbl:nr nde:nd ndo:ng nep:ne nld:nl nno:nn "
    "nob:nb nor:no npi:ne nya:ny oci:oc oji:oj ori:or orm:om ory:or oss:os pan:pa pbt:ps per:fa "
    "pes:fa pli:pi plt:mg pol:pl por:pt pus:ps que:qu roh:rm ron:ro rum:ro run:rn rus:ru sag:sg "
    "san:sa sin:si slk:sk slo:sk slv:sl sme:se smo:sm sna:sn snd:sd som:so sot:st spa:es sqi:sq "
    "srd:sc srp:sr ssw:ss sun:su swa:sw swe:sv swh:sw tah:ty tam:ta tat:tt tel:te tgk:tg tgl:tl "
    "tha:th tib:bo tir:ti ton:to tsn:tn tso:ts tuk:tk tur:tr twi:tw uig:ug ukr:uk urd:ur uzb:uz "
    "uzn:uz ven:ve vie:vi vol:vo wel:cy wln:wa wol:wo xho:xh ydd:yi yid:yi yor:yo zha:za zho:zh "
    "zsm:ms zul:zu"
)
TWO_LETTERS = dict(pair.split(":") for pair in _TWO_LETTERS.split())
"""ISO 639-1 of the codes of ISO 639-2, bibliographic ones too, and of the usual members of
macrolanguages."""
_OLD = {"iw": "he", "in": "id", "ji": "yi", "jw": "jv", "mo": "ro", "sh": "sr-latn"}
_SCRIPTS = {
    "zh-cn": "hans",
    "zh-sg": "hans",
    "zh-my": "hans",
    "zh-tw": "hant",
    "zh-hk": "hant",
    "zh-mo": "hant",
}
_SCRIPT, _REGION = re.compile(r"[a-z]{4}"), re.compile(r"[a-z]{2}|\d{3}")


def is_code(text: str) -> bool:
    return re.fullmatch(CODE, text) is not None


def language_tag(code: str) -> str:
    """A language code as it is compared with others: `zh-hant` for `zh_Hant`."""
    return code.replace("_", "-").lower()


def is_variety(tag: str, code: str) -> bool:
    """Whether the tag of a language is a code's or a variety's of it, as en-us is of en."""
    return tag == code or tag.startswith(f"{code}-")


def parts(code: str) -> tuple[str, str, str]:
    """Language, script and region of a code, "" for what it does not say: (`zh`, `hans`, `cn`) for
    zh-CN. Codes of three letters and old ones become those that are used now.

    Norwegian without more is nb, as in nearly all text.
    """
    first, *rest = language_tag(code).split("-")
    first = _OLD.get(first, TWO_LETTERS.get(first, first))
    first, _, script = _OLD.get(first, first).partition("-")
    script = next((part for part in rest if _SCRIPT.fullmatch(part)), script)
    region = next((part for part in rest if _REGION.fullmatch(part)), "")
    script = script or _SCRIPTS.get(f"{first}-{region}", "")
    return ("nb" if first == "no" else first), script, region


def distance(tag: str, code: str) -> int | None:
    """How far what a file calls a language is from what it is asked for; None if it is another.

    0 is the code or a variety of it, and each of script and region that the code has and the tag
    leaves open adds 1: en-GB asked for, en found. Two scripts, or two regions asked for and found,
    are two languages.
    """
    (found, *about), (wanted, *asked) = parts(tag), parts(code)
    if found != wanted:
        return None
    if any(a and b and a != b for a, b in zip(asked, about, strict=True)):
        return None
    return sum(bool(a) and not b for a, b in zip(asked, about, strict=True))


class Matching:
    """Finds the sides of a unit among the tags that its texts have, and counts the tags."""

    def __init__(self, languages: Sequence[str]):
        self._languages = languages
        self.count = len(languages)
        self._known: dict[tuple, list[int] | None] = {}
        self._counts: collections.Counter[str] = collections.Counter()

    def sides(self, tags: Sequence[str], is_full: Sequence[bool]) -> list[int] | None:
        """The text of each language: the nearest by `distance`, the first of those, and one that is
        full rather than an empty one. None where a language has none."""
        self._counts.update(tags)
        key = (*tags, *is_full)
        if key not in self._known:
            if len(self._known) > 10_000:  # of a file whose tags never end
                self._known.clear()
            self._known[key] = self._found(tags, is_full)
        return self._known[key]

    def _found(self, tags: Sequence[str], is_full: Sequence[bool]) -> list[int] | None:
        taken: list[int] = []
        for code in self._languages:
            far = [
                (not full, apart, i)
                for i, (tag, full) in enumerate(zip(tags, is_full, strict=True))
                if i not in taken and (apart := distance(tag, code)) is not None
            ]
            if not far:
                return None
            taken.append(min(far)[2])
        return taken

    def told(self) -> str:
        """The tags that were met, with how often each was; "" for none."""
        found = self._counts.most_common(12)
        more = ", ..." if len(self._counts) > len(found) else ""
        return ", ".join(f"{tag or 'none'} ({n:,})" for tag, n in found) + more
