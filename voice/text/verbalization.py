"""Verbalization: signs that a converter to phones reads wrongly are written out, each language by its own words.

Minus signs, money, units, ordinals, fractions, abbreviations and addresses of the web become words; plain numbers
stay digits, which the converters read well.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from mouthpiece.voice.text.number_words import SignWords, get_sign_words, parse_number, spell_number

NUMBER_PATTERN = r"\d+(?:[.,'’\u00a0\u202f]\d{2,3})*(?:[.,]\d+)?"
MINUS_PATTERN = re.compile(r"(?:(?<![\w.,)\]%-])[-－﹣]|−\s?|(?<=[^\W\d_]\s)–)(?=(?:[A-Z]{0,2}[$€£¥₹]\s?)?[\d½¼¾⅓⅔])")
_SUBTRACTION = re.compile(r"(?<=\d)\s?−\s(?=\d)")  # subtraction: 5 − 3
_MILLIONS = r"mill?[oõi][eoãn]?[nsiõe]?\w*|millions?|milliards?|miliard[oi]|milh(?:ão|ões)|bilh(?:ão|ões)|mil millones"
_SIGN_OF_RATIO = {"1/2": "½", "1/4": "¼", "3/4": "¾", "1/3": "⅓", "2/3": "⅔"}
_RATIO = re.compile(r"(?<![\w/.,])(1/2|1/4|3/4|1/3|2/3)(?![\w/.,]*\d)(?!/)")
_DOMAIN = re.compile(r"(?<![\w.@-])(?:https?://)?(?P<host>www(?:\.[\w-]+)+|(?:[\w-]+\.)+(?:com|org|net|edu|gov))\b")
_DOT_WORDS = {"en": " dot ", "es": " punto ", "fr": " point ", "it": " punto ", "pt": " ponto "}
_WWW_WORDS = {"en": "double-u double-u double-u", "es": "uve doble uve doble uve doble", "pt": "dáblio dáblio dáblio"}
_CHINESE_DIGITS = str.maketrans("0123456789", "零一二三四五六七八九")


class Replacement(NamedTuple):
    """Words that are said for text[start:stop]."""

    start: int
    stop: int
    words: str


def find_replacements(text: str, language: str) -> list[Replacement]:
    """Find what is written in signs and the words that say it, in order, without overlap.

    language: code such as "en-us", "pt-br" or "de"; nothing is found for one without a table of words.
    """
    signs, base = get_sign_words(language), re.split(r"[-_]", language.lower())[0]
    if signs is None:
        return []
    found: list[Replacement] = []
    for rule in _RULES:
        for replacement in rule(text, base, signs):
            if all(replacement.stop <= other.start or replacement.start >= other.stop for other in found):
                found.append(replacement)
    return sorted(found)


def verbalize(text: str, language: str) -> str:
    """Write out the signs of a text in words, as `find_replacements` finds them."""
    parts, done = [], 0
    for start, stop, words in find_replacements(text, language):
        parts += [text[done:start], words]
        done = stop
    return "".join([*parts, text[done:]])


def _replace_domains(text: str, base: str, signs: SignWords) -> list[Replacement]:
    dot = _DOT_WORDS.get(base)
    if dot is None:
        return []
    found = []
    for match in _DOMAIN.finditer(text):
        labels = match["host"].split(".")
        labels[0] = _WWW_WORDS.get(base, "w w w") if labels[0].lower() == "www" else labels[0]
        found.append(Replacement(*match.span(), dot.join(labels)))
    return found


def _replace_abbreviations(text: str, base: str, signs: SignWords) -> list[Replacement]:
    return [
        Replacement(*match.span(), words)
        for pattern, words in signs.abbreviations.items()
        for match in re.finditer(pattern, text)
    ]


def _replace_fractions(text: str, base: str, signs: SignWords) -> list[Replacement]:
    """Replace ½ and 1/2, alone, before a noun or behind a whole number."""
    found = []
    for match in re.finditer(r"(?P<whole>\d+\s?)?(?P<sign>[½¼¾⅓⅔])(?P<next>\s+\w+)?", text):
        words = _say_fraction(match["sign"], (match["whole"] or "").strip(), match["next"] or "", base, signs)
        found.append(Replacement(match.start(), match.end("sign"), words))
    if base != "en":  # hibari reads those
        for match in _RATIO.finditer(text):
            found.append(Replacement(*match.span(), signs.fractions[_SIGN_OF_RATIO[match[1]]]))
    return found


def _say_fraction(sign: str, whole: str, following: str, base: str, signs: SignWords) -> str:
    words, noun = signs.fractions[sign], following.strip().lower()
    if whole and base == "hi" and sign == "½":
        return {"1": "डेढ़", "2": "ढाई"}.get(whole, f"साढ़े {whole}")
    if whole and base in ("zh", "ja"):
        return f"{whole}又{words}" if base == "zh" else f"{whole}と{words}"
    if whole:
        words = {"en": {"½": "a half", "¼": "a quarter"}, "fr": {"½": "demi"}}.get(base, {}).get(sign, words)
        return f"{whole} {signs.joint} {words}".replace("  ", " ")
    if base == "en" and noun in ("a", "an", "the"):
        return {"½": "half", "¼": "a quarter of"}.get(sign, words + " of")
    if sign == "½" and base in ("es", "it", "pt") and noun.endswith("a"):
        return {"es": "media", "it": "mezza", "pt": "meia"}[base]
    if sign == "½" and base == "fr" and noun in ("heure", "journée", "bouteille", "douzaine", "livre"):
        return "une demi"
    return words


@lru_cache(maxsize=16)
def _compile_currency(base: str) -> re.Pattern[str]:
    signs = sorted(get_sign_words(base).currencies, key=len, reverse=True)  # type: ignore[union-attr]
    sign, millions = "|".join(map(re.escape, signs)), rf"(?:\s(?P<%s>{_MILLIONS})\b)?"
    before = rf"(?<![\w$])(?P<sign>{sign})\s?(?P<number>{NUMBER_PATTERN}){millions % 'many'}"
    after = rf"(?<![\w.,])(?P<number2>{NUMBER_PATTERN}){millions % 'many2'}[\s\u00a0\u202f]?(?P<sign2>{sign})(?!\w)"
    return re.compile(f"{before}|{after}")


def _replace_money(text: str, base: str, signs: SignWords) -> list[Replacement]:
    if not signs.currencies:
        return []
    found = []
    for match in _compile_currency(base).finditer(text):
        sign, number = match["sign"] or match["sign2"], match["number"] or match["number2"]
        if base == "en" and match["sign"] and sign != "R$":
            continue  # hibari reads those
        words = _say_money(sign, number, match["many"] or match["many2"] or "", base, signs)
        if words:
            found.append(Replacement(*match.span(), words))
    return found


def _say_money(sign: str, number: str, millions: str, base: str, signs: SignWords) -> str:
    amount, (one, several) = parse_number(number, base), signs.currencies[sign]
    if amount is None:
        return ""
    if millions:
        joint = signs.of_millions.split("|")
        elided = len(joint) > 1 and several[0] in "aeiouyé"
        return f"{number} {millions} " + (joint[-1] + several if elided else f"{joint[0]} {several}".strip())
    if base == "zh":
        return number + several
    cents = (amount % 1) * 100
    if cents and cents == int(cents) and re.search(r"[.,]\d\d$", number):
        sub = signs.subunits.get(sign, ("", ""))[cents != 1]
        joint = f"{signs.joint} " if sub or base == "it" else ""
        return f"{int(amount)} {_choose(amount // 1, one, several)} {joint}{int(cents)} {sub}".strip()
    return f"{number} {_choose(amount, one, several)}"


def _choose(amount: Decimal, one: str, several: str) -> str:
    return one if amount == 1 else several


@lru_cache(maxsize=16)
def _compile_units(base: str) -> re.Pattern[str]:
    units = sorted(get_sign_words(base).units, key=len, reverse=True)  # type: ignore[union-attr]
    unit = "|".join(
        rf"{re.escape(name[0])}\s?{re.escape(name[1:])}" if name[0] == "°" else re.escape(name) for name in units
    )
    return re.compile(rf"(?<![\w.,/])(?P<number>{NUMBER_PATTERN})[\s\u00a0\u202f]?(?P<unit>{unit})(?![\w²³/])")


def _replace_units(text: str, base: str, signs: SignWords) -> list[Replacement]:
    if not signs.units:
        return []
    found = []
    for match in _compile_units(base).finditer(text):
        if match["unit"] == "h" and re.match(r"\s?\d", text[match.end() :]):
            continue  # 5 h 30
        amount = parse_number(match["number"], base)
        one, several = signs.units[re.sub(r"\s", "", match["unit"])]
        plural = (
            several
            if base == "fr" and amount is not None and amount >= 2
            else _choose(amount or Decimal(0), one, several)
        )
        found.append(Replacement(*match.span(), match["number"] + ("" if base == "zh" else " ") + plural))
    return found


def _replace_ordinals(text: str, base: str, signs: SignWords) -> list[Replacement]:
    if base == "en":
        return [
            Replacement(*match.span(), match[1] + _get_english_suffix(int(match[1])))
            for match in re.finditer(r"(?<![\w.,])(\d{1,4})[ºª]", text)
        ]
    found = []
    for suffix, ruleset in signs.ordinals:
        for match in re.finditer(rf"(?<![\w.,])(\d{{1,4}})(?:{suffix})", text):
            words = spell_number(Decimal(match[1]), base, ruleset)
            if words:
                found.append(Replacement(*match.span(), words))
    return found


def _get_english_suffix(number: int) -> str:
    return "th" if number // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def _replace_chinese_signs(text: str, base: str, signs: SignWords) -> list[Replacement]:
    """Replace what cn2an does not read: percentages, years, grouped digits, ratios."""
    if base != "zh":
        return []
    found = [Replacement(*m.span(), "百分之" + m[1]) for m in re.finditer(r"(\d+(?:\.\d+)?)\s?[%％]", text)]
    found += [
        Replacement(*m.span(), m[1].translate(_CHINESE_DIGITS)) for m in re.finditer(r"(?<!\d)(\d{4})(?=年)", text)
    ]
    grouped = re.finditer(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!\d)", text)
    return found + [Replacement(*m.span(), m[0].replace(",", "")) for m in grouped]


def _replace_minus(text: str, base: str, signs: SignWords) -> list[Replacement]:
    space = "" if base in ("zh", "ja") else " "
    found = [Replacement(*m.span(), f" {signs.minus} ") for m in _SUBTRACTION.finditer(text)]
    return found + [Replacement(*m.span(), signs.minus + space) for m in MINUS_PATTERN.finditer(text)]


_RULES = (
    _replace_domains,
    _replace_abbreviations,
    _replace_money,
    _replace_fractions,
    _replace_chinese_signs,
    _replace_units,
    _replace_ordinals,
    _replace_minus,
)
