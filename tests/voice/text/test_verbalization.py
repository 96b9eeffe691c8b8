"""Tables of what is written in signs and the words that say it: both must give the same phones."""

import pytest

from mouthpiece.voice.text.number_words import parse_number, spell_number
from mouthpiece.voice.text.phones import make_utterance
from mouthpiece.voice.text.verbalization import verbalize

ENGLISH = """
-5 | minus five
−5 | minus five
－5 | minus five
It is -3 outside. | It is minus three outside.
from -10 to -5 | from minus ten to minus five
from −10 to −5 | from minus ten to minus five
It was –5 outside. | It was minus five outside.
-$20 | minus twenty dollars
−$20 | minus twenty dollars
He owes -$20. | He owes minus twenty dollars.
-€5 | minus five euros
-£5 | minus five pounds
-20% | minus twenty percent
-5°C | minus five degrees celsius
-2.5 | minus two point five
(-4) | (minus four)
5 − 3 | five minus three
10-15 | ten to fifteen
sub-5 | sub five
$20 | twenty dollars
$1 | one dollar
£20 | twenty pounds
€20 | twenty euros
20 € | twenty euros
1 € | one euro
20€ | twenty euros
R$ 20 | twenty reais
R$20 | twenty reais
$9.99 | nine dollars and ninety nine cents
½ an hour | half an hour
½ | one half
¼ | one quarter
¾ | three quarters
⅓ | one third
⅔ | two thirds
2½ hours | two and a half hours
2 ½ hours | two and a half hours
3¼ miles | three and a quarter miles
1/2 | one half
3/4 | three quarters
3.5 km | three point five kilometers
5°C | five degrees celsius
5℃ | five degrees celsius
20% | twenty percent
No. 5 | number five
n° 5 | number five
nº 5 | number five
1º | first
2ª | second
11º | eleventh
1st | first
22nd | twenty second
5 + 3 | five plus three
23 | twenty three
www.example.com | double-u double-u double-u dot example dot com
example.org | example dot org
https://example.com | example dot com
x¹ | x one
D-Day | D day
T-test | T test
co-op | ko op
"""
OTHERS = {
    "es": """
        Hace -3 grados. | Hace menos tres grados.
        −5 | menos cinco
        -$20 | menos veinte dólares
        R$ 20 | veinte reales
        20 € | veinte euros
        1 € | 1 euro
        $2 millones | dos millones de dólares
        20,50 € | veinte euros y cincuenta céntimos
        El 1º de mayo | El primero de mayo
        El 1.º de mayo | El primero de mayo
        la 2ª vez | la segunda vez
        el 1er piso | el primer piso
        ½ hora | media hora
        ½ kilo | medio kilo
        3,5 km | tres coma cinco kilómetros
        80 km/h | ochenta kilómetros por hora
        nº 5 | número cinco
        n.º 5 | número cinco
        5 °C | cinco grados Celsius
        Sr. Pérez | señor Pérez
    """,
    "fr": """
        Il fait -3 degrés. | Il fait moins trois degrés.
        −5 | moins cinq
        -20 € | moins vingt euros
        M. Dupont | Monsieur Dupont
        MM. Dupont | Messieurs Dupont
        n° 5 | numéro cinq
        la 2e fois | la deuxième fois
        la 1re fois | la première fois
        2½ | deux et demi
        ¾ | trois quarts
        5 °C | cinq degrés Celsius
        90 km/h | 90 kilomètres-heure
    """,
    "it": """
        −5 | meno cinque
        -$20 | meno 20 dollari
        il 1º maggio | il primo maggio
        la 2ª volta | la seconda volta
        ½ ora | mezza ora
        3,5 km | tre virgola cinque chilometri
        n° 5 | numero cinque
        5 °C | cinque gradi Celsius
        Sig. Rossi | signor Rossi
        R$ 20 | 20 real
    """,
    "pt-br": """
        Custa R$ 20. | Custa vinte reais.
        -R$ 20 | menos 20 reais
        R$ 1 | 1 real
        R$ 2 milhões | dois milhões de reais
        US$ 5 | cinco dólares
        −5 | menos cinco
        1º de maio | primeiro de maio
        2ª vez | segunda vez
        ½ hora | meia hora
        3,5 km | 3,5 quilômetros
        nº 5 | número cinco
        Sra. Silva | senhora Silva
    """,
    "hi": """
        -3 डिग्री | माइनस तीन डिग्री
        −5 | माइनस पांच
        ₹20 | बीस रुपये
        -₹20 | माइनस बीस रुपये
        ½ | आधा
        2½ | ढाई
        5 km | पांच किलोमीटर
        5°C | पांच डिग्री सेल्सियस
    """,
    "zh": """
        -5度 | 负五度
        −5 | 负五
        20% | 百分之二十
        ½ | 二分之一
        1/2 | 二分之一
        ¥20 | 二十元
        5km | 五公里
        1,200 | 一千二百
        -5°C | 负五摄氏度
    """,
}


def _read_table(table):
    return [tuple(side.strip() for side in row.split("|")) for row in table.strip().splitlines()]


def _say(text, language):
    """The phones of a text, without stress, spaces and marks, which may differ between signs and words."""
    return "".join(phone for phone in make_utterance(text, language).phones if phone not in "ˈˌ .,—()$")


@pytest.mark.parametrize(("written", "spoken"), _read_table(ENGLISH))
def test_english_signs_are_said_as_words(written, spoken):
    assert _say(written, "en-us") == _say(spoken, "en-us")


@pytest.mark.parametrize(
    ("language", "written", "spoken"), [(code, *row) for code, table in OTHERS.items() for row in _read_table(table)]
)
def test_signs_of_other_languages_are_said_as_words(language, written, spoken):
    for module in ("misaki", "jieba", "cn2an") if language == "zh" else ("espeakng_loader",):
        pytest.importorskip(module, reason="comes with the extra 'voices'")
    assert _say(written, language) == _say(spoken, language)


@pytest.mark.parametrize(
    ("written", "phones"),
    [
        ("W-what?", "wə wˌʌt?"),
        ("St-stop", "stə stˈɑp"),
        ("T-t-try", "tə tə tɹˈI"),
        ("Th-the", "ðə ðə"),
        ("A-and", "æ ænd"),
        ("Shh!", "ʃː!"),
        ("SHHH", "ʃː"),
        ("Psst", "pst"),
        ("Brr!", "bɹː!"),
        ("Grr", "ɡɹː"),
        ("Tsk", "tˈɪsk"),
        ("Zzz", "zː"),
        ("PST", "pˌiˌɛstˈi"),
        ("I-I", "ˈIˌI"),
        ("e-mail", "ˈimˌAl"),
        ("re-enter", "ɹiˈɛntəɹ"),
    ],
)
def test_stutters_and_interjections_are_said_by_rule(written, phones):
    one = make_utterance(written, "en-us")
    assert "".join(one.phones[1:-1]) == phones
    assert len(one.words) == 1 and one.words[0].text == written.rstrip("!?")


def test_a_sign_is_one_word_with_its_number():
    words = [(word.text, word.chars) for word in make_utterance("It is −5 now.", "en-us").words]
    assert words == [("It", (0, 2)), ("is", (3, 5)), ("−5", (6, 8)), ("now", (9, 12))]


def test_the_users_dictionary_comes_before_the_tables():
    pytest.importorskip("espeakng_loader", reason="comes with the extra 'voices'")
    assert "θˈik" in "".join(make_utterance("5 km", "es", {"km": "/θˈik/"}).phones)


@pytest.mark.parametrize("text", ["a-b", "1999-2003", "e-mail me", "X-5", "3-4", "well - 5 of us"])
def test_hyphens_are_no_minus(text):
    assert verbalize(text, "en") == verbalize(text, "es") == text


@pytest.mark.parametrize(
    ("written", "language", "value"),
    [
        ("1.200", "es", "1200"),
        ("3,5", "fr", "3.5"),
        ("3.5", "it", "3.5"),
        ("1,200.5", "hi", "1200.5"),
        ("1 200", "fr", "1200"),
    ],
)
def test_numbers_are_grouped_and_pointed_as_the_language_has_it(written, language, value):
    assert str(parse_number(written, language)) == value


def test_numbers_are_spelled_out_by_cldr():
    assert spell_number(parse_number("3,5", "es"), "es") == "tres coma cinco"
    assert spell_number(-parse_number("21", "hi"), "hi") == "माइनस इक्कीस"
    assert spell_number(-parse_number("7", "ru"), "ru") == "минус семь"
    assert spell_number(parse_number("7", "xx"), "xx") is None
