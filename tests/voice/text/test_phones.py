from fractions import Fraction

import pytest

from mouthpiece.engine.errors import InvalidInputError, MissingDependencyError, UsageError
from mouthpiece.voice.plan.speech_plan import PAUSE
from mouthpiece.voice.text import g2p
from mouthpiece.voice.text.phones import MAX_UTTERANCE_PHONES, load_alphabet, make_utterance, split_into_utterances


def said(utterance):
    """The words with the phones that say them."""
    return [(word.text, "".join(utterance.phones[word.start : word.stop])) for word in utterance.words]


def holds(utterance):
    """What is true of every utterance: ends, alphabet, words in order and in their place."""
    assert utterance.phones[0] == utterance.phones[-1] == PAUSE and set(utterance.phones) <= set(load_alphabet())
    edges = [edge for word in utterance.words for edge in (word.start, word.stop)]
    assert edges == sorted(edges) and len(set(edges[::2])) == len(utterance.words)
    places = [edge for word in utterance.words for edge in word.chars]
    assert places == sorted(places)
    assert all(utterance.text[a:b] == word.text for word in utterance.words for a, b in [word.chars])
    assert all(utterance.phones[k] == PAUSE for k, _ in utterance.pauses)
    return utterance


def spoken(text, language="en-us", dictionary=None):
    return said(holds(make_utterance(text, language, dictionary)))


def test_every_word_knows_its_phones_and_its_place():
    one = holds(make_utterance("Hello there, world.", "en-us"))
    assert "".join(one.phones) == "$həlˈO ðˈɛɹ, wˈɜɹld.$"
    assert [(w.text, w.chars) for w in one.words] == [("Hello", (0, 5)), ("there", (6, 11)), ("world", (13, 18))]


def test_numbers_times_and_money_are_one_written_word_of_several_spoken_ones():
    words = dict(spoken("It cost $9.99 at 7:30 pm on the 3rd of March 2024, and 23 people ran 10 km."))
    assert words["$9.99"] == "nˈIn dˈɑləɹz ænd nˈIndi nˈIn sˈɛnts"
    assert words["7:30 pm"] == "sˈɛvən θˈɜɹTi pˌiˈɛm"
    assert words["2024"] == "twˈɛnti twˈɛnti fˈɔɹ" and words["23"] == "twˈɛnti θɹˈi"
    assert words["km"] == "kəlˈɑməTəɹz" and words["March"] == "mˈɑɹʧ"


def test_british_english_sounds_british():
    assert spoken("bath", "en-gb") != spoken("bath", "en-us")


def test_pauses_are_kept_with_the_length_that_was_wanted():
    one = holds(make_utterance('Hello [pause 0.4s] big <break time="300ms"/> world [pause .05 s]', "en-us"))
    assert [length for _, length in one.pauses] == [Fraction(2, 5), Fraction(3, 10), Fraction(1, 20)]
    assert [w.text for w in one.words] == ["Hello", "big", "world"]
    assert any("read as a pause of 0.3 s" in note for note in one.notes)


@pytest.mark.parametrize(
    "pause", ["[pause]", "[pause long]", "[pause 0s]", "[pause 99s]", "[pause -1s]", "<break time='x'/>"]
)
def test_a_pause_without_a_sensible_length_is_refused(pause):
    with pytest.raises(InvalidInputError, match="not the length of a pause.*300ms"):
        make_utterance(f"Hello {pause} world", "en-us")


def test_markup_is_left_out_and_told():
    one = holds(make_utterance("<speak>Hi <emphasis level='strong'>there</emphasis> &amp; you</speak>", "en-us"))
    assert [word for word, _ in said(one)] == ["Hi", "there", "&amp;", "you"]
    assert any("markup left out" in note for note in one.notes)
    assert spoken("1 < 2 and 3 > 2")[0][0].startswith("1")  # no markup


def test_emoji_and_marks_of_direction_are_not_spoken():
    one = holds(make_utterance("\u202e😀 Hello\u202c \U0001f44d\U0001f3fd there\u200b", "en-us"))
    assert [w.text for w in one.words] == ["Hello", "there"]
    assert any("😀" in note for note in one.notes)


def test_accents_in_two_characters_are_read_like_accents_in_one():
    assert spoken("cafe\u0301 a")[0][1] == spoken("caf\u00e9 a")[0][1]


def test_capitals_are_words_and_acronyms_stay_letters():
    assert said(make_utterance("DON'T GO", "en-us"))[1][1] == spoken("don't go")[1][1]
    words = dict(spoken("STOP, IT IS ME FROM THE USA"))
    assert words["IT"] == "ɪt" and words["USA"] == "jˌuˌɛsˈA"
    assert dict(spoken("The FBI said GO."))["FBI"] == "ˌɛfbˌiˈI"


@pytest.mark.parametrize("text", ["", "  \n ", "!!!", "😀😀", "[pause 1s]", "<b></b>"])
def test_text_without_words_is_refused_and_never_silence(text):
    for ask in (make_utterance, split_into_utterances):
        with pytest.raises(InvalidInputError, match="nothing to say|cannot be spoken"):
            ask(text, "en-us")


def test_a_script_that_the_language_is_not_written_in_is_refused_or_told():
    with pytest.raises(InvalidInputError, match="script.*Choose the language"):
        make_utterance("שלום עולם", "en-us")
    one = holds(make_utterance("Hello שלום friend", "en-us"))
    assert one.omitted_words == ("שלום",) and [w.text for w in one.words] == ["Hello", "friend"]
    assert any("שלום" in note for note in one.notes)


@pytest.mark.parametrize(
    "text, language",
    [
        ("मेरे पास 7 किताबें हैं", "en-us"),
        ("لدي 5 كتب", "en-us"),
        ("ฉันมี 3 เล่ม", "fr"),
        ("У меня 7 книг, OK?", "en-gb"),
        ("Привет, как дела? 7.", "en-us"),
        ("こんにちは 5", "zh"),
    ],
)
def test_digits_do_not_carry_a_line_of_another_script(text, language):
    for module in ("misaki", "jieba", "cn2an") if language == "zh" else ("espeakng_loader",) * (language == "fr"):
        pytest.importorskip(module, reason="comes with the extra 'voices'")
    with pytest.raises(InvalidInputError, match="script.*Choose the language"):
        split_into_utterances(text, language)


def test_a_sentence_of_another_script_is_among_the_words_left_out():
    *_, last = split_into_utterances("Good morning, everybody. Доброе утро.", "en-us")
    assert last.omitted_words == ("Доброе", "утро.")


def test_signs_that_chinese_has_no_reading_for_are_no_error():
    for module in ("misaki", "jieba", "cn2an"):
        pytest.importorskip(module, reason="comes with the extra 'voices'")
    assert [word for word, _ in spoken("你好 ☰ ⨁ 世界", "zh")] == ["你好", "世界"]


def test_a_language_without_voice_is_told_which_ones_have_one():
    with pytest.raises(UsageError, match="'de'.*en-us.*pt-br"):
        make_utterance("Guten Tag", "de")


def test_the_users_dictionary_says_words_in_phones_or_another_spelling(tmp_path):
    file = tmp_path / "names.toml"
    file.write_text('Zyxwv = "/zˈIks/"\nMouthpiece = "mouth piece"\n', encoding="utf-8")
    words = spoken("Mouthpiece met zyxwv's friend, Zyxwv.", dictionary=file)
    assert words[0] == ("Mouthpiece", "mˈWθ pˈis") and words[-1] == ("Zyxwv", "zˈIks")
    table = tmp_path / "names.tsv"
    table.write_text("# names\nZyxwv\t/zˈIks/\n", encoding="utf-8")
    assert spoken("Zyxwv", dictionary=table) == [("Zyxwv", "zˈIks")]


@pytest.mark.parametrize(
    "text, told",
    [
        ('a = "/ˈx9/"', "9 is not a phone"),
        ('a = "zˈIks"', "between slashes"),
        ('"a b" = "c"', "one word"),
        ("a = 3", "one word"),
        ("a b", "not readable"),
    ],
)
def test_a_dictionary_that_makes_no_sense_is_refused_in_words(tmp_path, text, told):
    file = tmp_path / "names.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError) as caught:
        make_utterance("a", "en-us", file)
    assert told in str(caught.value)


def test_long_text_is_cut_at_sentences_and_nothing_of_it_is_lost():
    text = "The quick brown fox jumps over the lazy dog near 23 houses, and then it rests. " * 40
    parts = split_into_utterances(text, "en-us")
    assert all(len(holds(one).phones) - 2 <= MAX_UTTERANCE_PHONES for one in parts) and len(parts) > 1
    assert sum(len(one.words) for one in parts) == 16 * 40
    for one in parts:
        assert one.text.lstrip().startswith("The quick")
        assert text[one.offset : one.offset + len(one.text)] == one.text


def test_text_without_any_mark_is_cut_between_words_and_a_word_without_end_is_cut_too():
    parts = split_into_utterances("word " * 300, "en-us")
    assert sum(len(one.words) for one in parts) == 300
    assert all(len(holds(one).phones) - 2 <= MAX_UTTERANCE_PHONES for one in parts)
    assert all(len(holds(one).phones) - 2 <= MAX_UTTERANCE_PHONES for one in split_into_utterances("x" * 1500, "en-us"))


def test_titles_and_small_letters_end_no_sentence():
    parts = split_into_utterances("Dr. Smith met J. Doe. They left.", "en-us", max_phones=30)
    assert [one.text.strip() for one in parts] == ["Dr. Smith met J. Doe.", "They left."]


def test_parts_put_together_are_what_they_would_be_alone():
    text = "Hello [pause 0.2s] there. Good morning, world."
    (one,) = split_into_utterances(text, "en-us")
    assert (
        holds(one).phones == make_utterance(text, "en-us").phones and one.pauses == make_utterance(text, "en-us").pauses
    )
    assert said(one) == said(make_utterance(text, "en-us"))


def test_lines_of_emoji_between_sentences_are_told_and_skipped():
    (one,) = split_into_utterances("😀😀\nHello there.\n!!!", "en-us")
    assert [w.text for w in one.words] == ["Hello", "there"] and any("😀" in note for note in one.notes)


@pytest.mark.parametrize(
    "language, text, word, phones",
    [
        ("es", "¿Hola, tengo 23 perros?", "23", "βˌAntitɾˈes"),
        ("fr", "Je les ai vus, n'est-ce pas ?", "les", "lez"),  # the z of the word that follows
        ("it", "Gli gnocchi costano 12,50 euro.", "12,50", "dˈodiʧɪ vˈirɡola ʧinkwˈanta"),
        ("pt-br", "Não é possível.", "possível", "pˌosˈiveʊ"),
        ("hi", "नमस्ते दुनिया।", "नमस्ते", "nəmˈʌsteː"),
    ],
)
def test_other_languages_are_read_by_espeak(language, text, word, phones):
    pytest.importorskip("espeakng_loader", reason="espeak-ng comes with the extra 'voices'")
    assert dict(spoken(text, language))[word] == phones


def test_a_word_of_the_dictionary_is_said_in_other_languages_too():
    pytest.importorskip("espeakng_loader", reason="espeak-ng comes with the extra 'voices'")
    assert spoken("Hola zyx mundo", "es", {"zyx": "/θˈik/"}) == [("Hola", "ˈola"), ("zyx", "θˈik"), ("mundo", "mˈundo")]


def test_chinese_words_keep_their_characters(tmp_path, monkeypatch):
    monkeypatch.setenv("MOUTHPIECE_CACHE_DIR", str(tmp_path))
    pytest.importorskip("jieba", reason="needs misaki[zh]")
    pytest.importorskip("cn2an", reason="needs misaki[zh]")
    pytest.importorskip("misaki", reason="needs misaki[zh]")
    assert spoken("你好，世界。我有23个。", "zh")[:2] == [("你好", "ni↓xau↓"), ("世界", "ʂɨ↘ʨje↘")]


def test_japanese_words_keep_their_characters():
    pytest.importorskip("pyopenjtalk", reason="needs pyopenjtalk-plus")
    pytest.importorskip("misaki", reason="needs misaki")
    assert spoken("こんにちは、世界。", "ja") == [("こんにちは", "koɴniʨiwa"), ("世界", "sekai")]


def test_a_reader_that_is_not_installed_is_missing_with_the_command_that_helps(monkeypatch):
    g2p._load_espeak.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "espeakng_loader", None)
    with pytest.raises(MissingDependencyError, match="espeakng_loader.*pip install") as caught:
        make_utterance("Hola", "es")
    assert caught.value.exit_code == 3
    g2p._load_espeak.cache_clear()
