"""Words by which captions for the deaf tell sounds from names and from sentences."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

# English sounds and manners, all of whose forms count ("sigh": sighs, sighed, sighing); words that are surnames, too
# ("bell", "horn"), are left to the words beside them
_ENGLISH = """applaud bang bark beep blare bleep breath breathe buzz cackle chant chatter cheer chime chirp
chuckle clang clank clap clatter click clink cough crack creak crunch cry cries cried crying ding
drip echo exclaim exhale explode fade fart gasp giggle gibber grind groan growl grumble grunt gulp
gurgle hiccup hiss honk hoot howl hum inhale jingle knock laugh meow moan mumble murmur mutter pant
purr rattle retch roar rumble rustle scoff scrape scream screech shatter shout shriek shush sigh
sizzle slam slurp smack smash snarl sneeze sniff sniffle snore snort sob spit splash splutter squeak
squeal squelch stammer stutter swoosh thud thump tick toot trickle trill tut tweet wail wheeze
whimper whine whir whirr whisper whistle whoop whoosh yawn yell yelp""".split()
_ENGLISH_ACTIONS = "open close play clear speak pop sing ring swallow".split()  # as "opens" and "opening" alone
_ENGLISH_NOUNS = """alarm ambience applause breathing cheering clapping commotion crosstalk explosion
footsteps gunfire gunshot gunshots hubbub inaudible indistinct instrumental laughter music noise overlapping pause
ringtone silence siren sirens song sounds static thunder thunderclap unintelligible voiceover whispering""".split()
_OTHER_LANGUAGES = """seufzt seufzer lacht lachen gelächter musik hustet husten schreit stöhnt flüstert weint schluchzt
applaus jubel knallt klopft klingelt räuspert kichert keucht schnauft donner stille geräusch schüsse gähnt brüllt
soupir soupire soupirs rire rires rit musique toux tousse crie cris sanglots murmure chuchote applaudissements
gémit halète sonnerie tonnerre bruit claque suspira suspiro risa risas ríe música tos tose grita gritos llora solloza
susurra aplausos gime jadea suena trueno ruido portazo sospira sospiro risate ride musica tossisce urla piange
singhiozza sussurra applausi geme rumore tuono riso risos tosse chora soluça sussurra palmas vaias suspiros
вздыхает вздох смех смеётся смеется музыка кашляет кричит плачет шепчет аплодисменты стонет""".split()
_CASELESS_SOUNDS = re.compile("[音声聲息笑叹嘆哭咳鳴鸣吠泣曲]|拍手|音楽|音乐|掌声|叫び|웃음|음악|한숨|박수|소리|기침")
_ENDINGS = ("", "s", "es", "ed", "d", "ing", "ter", "ming", "ging", "bing", "ping", "ting", "ning", "med", "ged", "bed")
_SOUNDS = {word + ending for word in _ENGLISH for ending in _ENDINGS}
_SOUNDS |= {word + ending for word in _ENGLISH_ACTIONS for ending in ("s", "ing")}
_SOUNDS |= {word[:-1] + "ing" for word in _ENGLISH + _ENGLISH_ACTIONS if word.endswith("e")}
_SOUNDS |= set(_ENGLISH_NOUNS) | set(_OTHER_LANGUAGES)
_MIN_PARTICIPLE_CHARACTERS = 6  # "LAUGHING", not "KING"
_PEOPLE = set(
    """man men woman women boy girl child children kid baby guy lady male female voice narrator announcer reporter
anchor newsreader host driver officer doctor nurse teacher waiter waitress soldier guard clerk operator dispatcher
both all everybody everyone crowd mann frau junge mädchen kind erzähler homme femme garçon fille narrateur hombre mujer
niño niña uomo donna homem mulher""".split()
)
_PARTICLES = set(
    """a an and at by for from in of off on over the through to via with & und am im von der die das auf über de du des
la le les et en sur à au el los las y por del di e il da do dos na no""".split()
)
_PERSONAL = set(
    """i i'm i've i'll i'd you you're you've your we we're us my me mine it's that's don't can't isn't won't let's
ich du wir ihr mir mich dich je j'ai tu nous vous moi yo tú nosotros io noi eu você nós я ты мы вы""".split()
)
_SINGING = set("singing sings sing sung singt singend chante chantant canta cantando cantano поёт поет".split())
_OFF_SCREEN = ("v.o.", "vo", "o.s.", "os", "o.c.", "off", "cont'd", "cont’d", "contd", "cont.")
_PLACES = ("on", "over", "in", "through", "from", "off", "via", "into", "to")  # "on phone", "to himself"
_WORDS = re.compile(r"[\w'’&.]+")
_MAX_NAME_WORDS = 5
_MAX_CASELESS_NAME = 8  # characters of a name in a script without capitals
_MAX_SOUND_WORDS = 10
MAX_ASIDE_WORDS = 3  # of a sound inside a sentence


def is_sound(text: str, max_words: int = _MAX_SOUND_WORDS) -> bool:
    """Say whether a text in brackets has a word for a sound or a manner of speaking, and is no sentence.

    max_words: a text of more words is none.
    """
    words = _list_words(text)
    if is_sentence(text) or len(words) > max_words:
        return False
    return any(word in _SOUNDS for word in words) or bool(_CASELESS_SOUNDS.search(text))


def is_singing(text: str) -> bool:
    """Say whether a text in brackets says that what follows is sung."""
    return not _SINGING.isdisjoint(_list_words(text))


def is_direction(text: str) -> bool:
    """Say whether a text in brackets behind a name says how or where its owner speaks: "whispering", "V.O."."""
    plain = text.strip().casefold()
    return is_sound(plain) or plain in _OFF_SCREEN or plain.split(" ")[0] in _PLACES


def is_sentence(text: str) -> bool:
    """Say whether a text in brackets is something that somebody says: it has persons, or ends as sentences do."""
    words = _list_words(text)
    return any(word in _PERSONAL for word in words) or len(words) > 1 and text.rstrip().endswith((".", "?", "!", "。"))


def get_speaker_name(text: str, known: Collection[str]) -> str:
    """Get the name in a text that names a speaker: without what follows a comma, or a place where it is known without.

    known: names that speak elsewhere in the script, case folded: "JOHN ON PHONE" is JOHN where he speaks, else himself.
    """
    head = text.split(",")[0].strip()
    alone = " ".join(_strip_place(head.split(" ")))
    return alone if alone.casefold() in known and alone.casefold() not in _PEOPLE else head


def is_speaker_name(text: str, known: Collection[str]) -> bool:
    """Say whether a text in brackets names a speaker: "MARTHA", "Martha, on phone", "woman 2".

    text: with single spaces.
    known: names that speak elsewhere in the script, case folded.
    """
    head = text.split(",")[0].strip()
    if head.casefold() in known:
        return True
    words = [word for word in head.split(" ") if word]
    if not words or len(words) > _MAX_NAME_WORDS or not any(c.isalpha() for c in head):
        return False
    if _CASELESS_SOUNDS.search(head) or any(_is_sound_word(word) for word in words):
        return False
    if words[0].casefold() in _PEOPLE:
        return True
    if words[0].casefold() in _PARTICLES - {"the", "la", "le", "el", "il"}:
        return False
    if head.lower() == head.upper():  # a script without capitals
        return len(head) <= _MAX_CASELESS_NAME
    return all(
        word[0].isupper() or word.casefold() in _PARTICLES or word[0].isdigit() or word[0] == "#"
        for word in _strip_place(words)
    )


def _strip_place(words: list[str]) -> list[str]:
    """Strip "on phone" and the like from the end of a name."""
    return words[: next((k for k, word in enumerate(words) if k and word.casefold() in _PLACES), len(words))]


def _is_sound_word(word: str) -> bool:
    plain = word.casefold().strip(".,!?'’")
    return plain in _SOUNDS or plain.endswith("ing") and len(plain) >= _MIN_PARTICIPLE_CHARACTERS


def _list_words(text: str) -> list[str]:
    return [word.strip(".").replace("’", "'") for word in _WORDS.findall(text.casefold())]
