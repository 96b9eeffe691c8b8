#!/usr/bin/env bash
# num2words 0.5.14 (the usual speller of numbers before a G2P): a minus is one language's luck.
#
# - Bengali drops the minus without a word: -3 and 3 are both "তিন".
# - Polish, Czech and Slovak: a whole number below zero raises ValueError ("invalid literal for int() with base 10: '-'"); the same
#   number above zero is spelled, and so are negative numbers in Spanish, German, Italian and Russian.
# - Turkish writes the minus and the number as one word: "eksiüç" for -3.
# - Spanish 3.5 is "tres punto cinco" although Spain and most of the Spanish-speaking world say "coma"; French and Italian
#   have "virgule" and "virgola".
#
# Why it matters: temperatures and balances of a Polish or Czech script stop a text front end that trusts the library, and a
# Turkish voice is given a word that no lexicon has. CLDR's spell-out rules (unicode-rbnf 2.4.1) have all three right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check num2words==0.5.14 unicode-rbnf==2.4.1
venv/bin/python -W ignore - <<'PY'
from num2words import num2words
from unicode_rbnf import RbnfEngine

for language, three in (("pl", "trzy"), ("cs", "tři"), ("sk", "tri")):
    assert num2words(3, lang=language) == three
    try:
        print(language, "-3 is", num2words(-3, lang=language))
    except ValueError as error:
        print(f"num2words {language}: -3 raises ValueError ({error})")
    else:
        raise SystemExit(f"changed: num2words spells -3 in {language}")
assert num2words(-3, lang="bn") == num2words(3, lang="bn"), "changed"
print("num2words bn: -3 is", num2words(-3, lang="bn"), "as 3 is")
turkish, spanish = num2words(-3, lang="tr"), num2words(3.5, lang="es")
print("num2words tr: -3 is", turkish)
print("num2words es: 3.5 is", spanish)
assert turkish == "eksiüç" and spanish == "tres punto cinco", "changed"
assert num2words(-3, lang="de") == "minus drei" and num2words(3.5, lang="fr") == "trois virgule cinq"
for language, number in (("pl", "-3"), ("cs", "-3"), ("tr", "-3"), ("es", "3.5")):
    print(f"unicode-rbnf {language}: {number} is", RbnfEngine.for_language(language).format_number(number).text)
assert RbnfEngine.for_language("pl").format_number("-3").text == "minus trzy", "changed"
PY
echo "as described"
