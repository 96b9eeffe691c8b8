"""Number words and written signs of each language: spelled-out numbers, currencies, units, fractions, abbreviations."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unicode_rbnf import RbnfEngine

MAX_DIGITS = 15  # of a number that is spelled out; longer ones are read digit by digit
_ZERO_WIDTH = str.maketrans(dict.fromkeys("\u00ad\u200b\u200c\u200d"))  # where CLDR lets a line break
_POINT_FIRST = ("en", "hi", "ja", "ko", "th", "yue", "zh")  # a comma groups digits, a point begins decimals


@dataclass(frozen=True)
class SignWords:
    """Words of a language for signs; empty where its grapheme-to-phoneme converter reads the sign well.

    minus, point, joint: for a negative number, the decimal point, and between whole and fraction.
    currencies: {sign: (of one, of several)}; subunits: {sign: (of one, of several)}, joined by `joint`.
    of_millions: word between millions and a currency: "de" in "2 millones de euros".
    units: {unit behind a number: (of one, of several)}.
    fractions: {fraction sign: words}.
    abbreviations: {pattern: words}.
    ordinals: (pattern of the suffix, ruleset of CLDR) in order.
    """

    minus: str
    point: str
    joint: str = ""
    currencies: dict[str, tuple[str, str]] = field(default_factory=dict)
    subunits: dict[str, tuple[str, str]] = field(default_factory=dict)
    of_millions: str = ""
    units: dict[str, tuple[str, str]] = field(default_factory=dict)
    fractions: dict[str, str] = field(default_factory=dict)
    abbreviations: dict[str, str] = field(default_factory=dict)
    ordinals: tuple[tuple[str, str], ...] = ()


def _pair(singular: str, plural: str = "") -> tuple[str, str]:
    return singular, plural or singular


_MASCULINE, _FEMININE = "spellout-ordinal-masculine", "spellout-ordinal-feminine"
SIGN_WORDS = {
    "en": SignWords(
        minus="minus",
        point="point",
        joint="and",
        currencies={"R$": _pair("real", "reais"), "€": _pair("euro", "euros"), "£": _pair("pound", "pounds")},
        fractions={"½": "one half", "¼": "one quarter", "¾": "three quarters", "⅓": "one third", "⅔": "two thirds"},
        abbreviations={r"\b[Nn][°º]\s?(?=\d)": "number "},
    ),
    "es": SignWords(
        minus="menos",
        point="coma",
        joint="y",
        currencies={
            **{"€": _pair("euro", "euros"), "$": _pair("dólar", "dólares"), "US$": _pair("dólar", "dólares")},
            **{"£": _pair("libra", "libras"), "R$": _pair("real", "reales"), "¥": _pair("yen", "yenes")},
        },
        subunits={"€": _pair("céntimo", "céntimos"), "$": _pair("centavo", "centavos")},
        of_millions="de",
        units={
            **{
                "km": _pair("kilómetro", "kilómetros"),
                "m": _pair("metro", "metros"),
                "cm": _pair("centímetro", "centímetros"),
            },
            **{"mm": _pair("milímetro", "milímetros"), "kg": _pair("kilo", "kilos"), "g": _pair("gramo", "gramos")},
            **{"l": _pair("litro", "litros"), "ml": _pair("mililitro", "mililitros"), "h": _pair("hora", "horas")},
            **{"min": _pair("minuto", "minutos"), "km/h": _pair("kilómetro por hora", "kilómetros por hora")},
            **{"°C": _pair("grado Celsius", "grados Celsius"), "°F": _pair("grado Fahrenheit", "grados Fahrenheit")},
            "m²": _pair("metro cuadrado", "metros cuadrados"),
        },
        fractions={"½": "medio", "¼": "un cuarto", "¾": "tres cuartos", "⅓": "un tercio", "⅔": "dos tercios"},
        abbreviations={
            **{r"\b[Nn]\.?[°º]\s?(?=\d)": "número ", r"\bSr\.(?=\s)": "señor", r"\bSra\.(?=\s)": "señora"},
            **{r"\bSrta\.(?=\s)": "señorita", r"\bDr\.(?=\s)": "doctor", r"\bDra\.(?=\s)": "doctora"},
        },
        ordinals=(
            (r"\.?(?:er|ᵉʳ)\b", "spellout-ordinal-masculine-adjective"),
            (r"\.?[º°]s\b", "spellout-ordinal-masculine-plural"),
            (r"\.?ªs\b", "spellout-ordinal-feminine-plural"),
            (r"\.?º", _MASCULINE),
            (r"\.?ª", _FEMININE),
        ),
    ),
    "fr": SignWords(
        minus="moins",
        point="virgule",
        joint="et",
        currencies={
            **{"€": _pair("euro", "euros"), "$": _pair("dollar", "dollars"), "US$": _pair("dollar", "dollars")},
            **{"£": _pair("livre", "livres"), "R$": _pair("réal", "réaux"), "¥": _pair("yen", "yens")},
        },
        of_millions="de|d'",
        units={
            **{"°C": _pair("degré Celsius", "degrés Celsius"), "°F": _pair("degré Fahrenheit", "degrés Fahrenheit")},
            **{"km/h": _pair("kilomètre-heure", "kilomètres-heure"), "m²": _pair("mètre carré", "mètres carrés")},
            **{"h": _pair("heure", "heures"), "min": _pair("minute", "minutes")},
        },
        fractions={"½": "un demi", "¼": "un quart", "¾": "trois quarts", "⅓": "un tiers", "⅔": "deux tiers"},
        abbreviations={
            **{r"\b[Nn][°º]\s?(?=\d)": "numéro ", r"\b[Nn][°º]s\s?(?=\d)": "numéros "},
            **{r"\bM\.(?=\s[^\W\d_])": "Monsieur", r"\bMM\.(?=\s[^\W\d_])": "Messieurs"},
        },
        ordinals=(
            (r"(?:re|ère)\b", _FEMININE),
            (r"(?:nde)\b", _FEMININE),
            (r"(?:ème|eme|e|nd|ᵉ)\b", _MASCULINE),
            (r"(?:èmes|emes|es)\b", "spellout-ordinal-masculine-plural"),
        ),
    ),
    "it": SignWords(
        minus="meno",
        point="virgola",
        joint="e",
        currencies={
            **{"€": _pair("euro"), "$": _pair("dollaro", "dollari"), "US$": _pair("dollaro", "dollari")},
            **{"£": _pair("sterlina", "sterline"), "R$": _pair("real"), "¥": _pair("yen")},
        },
        of_millions="di",
        units={
            **{
                "km": _pair("chilometro", "chilometri"),
                "m": _pair("metro", "metri"),
                "cm": _pair("centimetro", "centimetri"),
            },
            **{"mm": _pair("millimetro", "millimetri"), "kg": _pair("chilo", "chili"), "g": _pair("grammo", "grammi")},
            **{"l": _pair("litro", "litri"), "ml": _pair("millilitro", "millilitri"), "h": _pair("ora", "ore")},
            **{"min": _pair("minuto", "minuti"), "km/h": _pair("chilometro all'ora", "chilometri all'ora")},
            **{"°C": _pair("grado Celsius", "gradi Celsius"), "°F": _pair("grado Fahrenheit", "gradi Fahrenheit")},
            "m²": _pair("metro quadrato", "metri quadrati"),
        },
        fractions={"½": "mezzo", "¼": "un quarto", "¾": "tre quarti", "⅓": "un terzo", "⅔": "due terzi"},
        abbreviations={
            **{r"\b[Nn]\.?[°º]\s?(?=\d)": "numero ", r"\bSig\.(?=\s)": "signor", r"\bSig\.?ra\.?(?=\s)": "signora"},
            **{r"\bDott\.(?=\s)": "dottor", r"\bDott\.?ssa\.?(?=\s)": "dottoressa"},
        },
        ordinals=((r"º|°(?=\s+[^\W\d_])", _MASCULINE), (r"ª", _FEMININE)),
    ),
    "pt": SignWords(
        minus="menos",
        point="vírgula",
        joint="e",
        currencies={
            **{"R$": _pair("real", "reais"), "$": _pair("dólar", "dólares"), "US$": _pair("dólar", "dólares")},
            **{"€": _pair("euro", "euros"), "£": _pair("libra", "libras"), "¥": _pair("iene", "ienes")},
        },
        subunits={
            "R$": _pair("centavo", "centavos"),
            "$": _pair("centavo", "centavos"),
            "€": _pair("cêntimo", "cêntimos"),
        },
        of_millions="de",
        units={
            **{
                "km": _pair("quilômetro", "quilômetros"),
                "m": _pair("metro", "metros"),
                "cm": _pair("centímetro", "centímetros"),
            },
            **{"mm": _pair("milímetro", "milímetros"), "kg": _pair("quilo", "quilos"), "g": _pair("grama", "gramas")},
            **{"l": _pair("litro", "litros"), "ml": _pair("mililitro", "mililitros"), "h": _pair("hora", "horas")},
            **{"min": _pair("minuto", "minutos"), "km/h": _pair("quilômetro por hora", "quilômetros por hora")},
            **{"°C": _pair("grau Celsius", "graus Celsius"), "°F": _pair("grau Fahrenheit", "graus Fahrenheit")},
            "m²": _pair("metro quadrado", "metros quadrados"),
        },
        fractions={"½": "meio", "¼": "um quarto", "¾": "três quartos", "⅓": "um terço", "⅔": "dois terços"},
        abbreviations={
            **{r"\b[Nn]\.?[°º]\s?(?=\d)": "número ", r"\bSr\.(?=\s)": "senhor", r"\bSra\.(?=\s)": "senhora"},
            **{r"\bSrta\.(?=\s)": "senhorita", r"\bDr\.(?=\s)": "doutor", r"\bDra\.(?=\s)": "doutora"},
        },
        ordinals=((r"\.?[º°]", _MASCULINE), (r"\.?ª", _FEMININE)),
    ),
    "de": SignWords(
        minus="minus",
        point="Komma",
        joint="und",
        currencies={"€": _pair("Euro"), "$": _pair("Dollar"), "£": _pair("Pfund")},
        units={
            **{"km": _pair("Kilometer"), "m": _pair("Meter"), "cm": _pair("Zentimeter"), "kg": _pair("Kilo")},
            **{"°C": _pair("Grad Celsius"), "%": _pair("Prozent"), "km/h": _pair("Kilometer pro Stunde")},
        },
        fractions={"½": "ein halb", "¼": "ein Viertel", "¾": "drei Viertel", "⅓": "ein Drittel", "⅔": "zwei Drittel"},
        abbreviations={r"\bNr\.\s?(?=\d)": "Nummer ", r"\bHr\.(?=\s)": "Herr", r"\bFr\.(?=\s)": "Frau"},
    ),
    "hi": SignWords(
        minus="माइनस",
        point="दशमलव",
        currencies={
            **{"₹": _pair("रुपया", "रुपये"), "$": _pair("डॉलर"), "€": _pair("यूरो"), "£": _pair("पाउंड")},
        },
        units={
            **{"km": _pair("किलोमीटर"), "m": _pair("मीटर"), "cm": _pair("सेंटीमीटर"), "mm": _pair("मिलीमीटर")},
            **{"kg": _pair("किलो"), "g": _pair("ग्राम"), "l": _pair("लीटर"), "km/h": _pair("किलोमीटर प्रति घंटा")},
            **{"किमी": _pair("किलोमीटर"), "किग्रा": _pair("किलोग्राम"), "°C": _pair("डिग्री सेल्सियस"), "°": _pair("डिग्री")},
        },
        fractions={"½": "आधा", "¼": "एक चौथाई", "¾": "तीन चौथाई", "⅓": "एक तिहाई", "⅔": "दो तिहाई"},
    ),
    "zh": SignWords(
        minus="负",
        point="点",
        currencies={
            **{"¥": _pair("元"), "￥": _pair("元"), "$": _pair("美元"), "€": _pair("欧元"), "£": _pair("英镑")},
        },
        units={
            **{"km": _pair("公里"), "m": _pair("米"), "cm": _pair("厘米"), "mm": _pair("毫米"), "kg": _pair("公斤")},
            **{"g": _pair("克"), "l": _pair("升"), "ml": _pair("毫升"), "km/h": _pair("公里每小时")},
            **{"°C": _pair("摄氏度"), "℃": _pair("摄氏度"), "°": _pair("度")},
        },
        fractions={"½": "二分之一", "¼": "四分之一", "¾": "四分之三", "⅓": "三分之一", "⅔": "三分之二"},
    ),
    "ja": SignWords(
        minus="マイナス",
        point="点",
        fractions={"½": "2分の1", "¼": "4分の1", "¾": "4分の3", "⅓": "3分の1", "⅔": "3分の2"},
    ),
}


def get_sign_words(language: str) -> SignWords | None:
    """Get the sign words of a language code such as "pt-br"; None for a language without a table."""
    return SIGN_WORDS.get(re.split(r"[-_]", language.lower())[0])


def parse_number(written: str, language: str) -> Decimal | None:
    """Parse a written number without its sign, grouped and pointed as the language has it; None for what is none.

    A separator that stands more than once, or one before three digits that is not the language's point, groups.
    """
    point_first = re.split(r"[-_]", language.lower())[0] in _POINT_FIRST
    point, group = (".", ",") if point_first else (",", ".")
    text = re.sub(r"[\s\u00a0\u202f'’]", "", written)
    if text.count(group) == 1 and point not in text and not re.search(rf"\{group}\d{{3}}$", text):
        point, group = group, point  # "3.5" in a language that writes "3,5"
    try:
        return Decimal(text.replace(group, "").replace(point, "."))
    except InvalidOperation:
        return None


def spell_number(number: Decimal, language: str, ruleset: str = "spellout-numbering") -> str | None:
    """Spell out a number in words; None for a language or ruleset that CLDR does not have.

    ruleset: name of a CLDR ruleset, such as spellout-ordinal-feminine.
    Source: Unicode CLDR, rule-based number formats, by unicode-rbnf.
    """
    engine = _load_engine(re.split(r"[-_]", language.lower())[0])
    if engine is None or ruleset not in engine.rulesets or len(str(abs(int(number)))) > MAX_DIGITS:
        return None
    words = get_sign_words(language)
    if number < 0:
        positive = spell_number(-number, language, ruleset)
        return positive and f"{get_minus_word(language)} {positive}"
    whole, _, decimals = f"{number:f}".partition(".")
    text = engine.format_number(int(whole), ruleset_names=[ruleset]).text
    if decimals:
        digits = [engine.format_number(int(digit), ruleset_names=["spellout-numbering"]).text for digit in decimals]
        text = " ".join([text, words.point if words else ",", *digits])
    return text.translate(_ZERO_WIDTH)


def get_minus_word(language: str) -> str:
    """Get the word before a negative number; "" for a language that neither the tables nor CLDR have."""
    words = get_sign_words(language)
    if words is not None:
        return words.minus
    engine = _load_engine(re.split(r"[-_]", language.lower())[0])
    if engine is None:
        return ""
    return (
        engine.format_number(-1)
        .text.translate(_ZERO_WIDTH)
        .removesuffix(engine.format_number(1).text.translate(_ZERO_WIDTH))
        .strip()
    )


@lru_cache(maxsize=16)
def _load_engine(language: str) -> RbnfEngine | None:
    from unicode_rbnf import RbnfEngine

    try:
        return RbnfEngine.for_language(language)
    except ValueError:
        return None
