import numpy as np
import pytest

from voice.words import normal_words, sounds_alike, sounds_same, text_of, word_error


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("Their forty-two dogs ate.", "there 42 dogs eight"),
        ("Lay blue by C two again!", "lay blue by C2 again"),
        ("Mr. Smith doesn't go.", "Mister Smith does not go"),
        ("A foot ball game", "a football game"),
    ],
)
def test_numbers_homophones_and_joins_are_no_errors(said, heard):
    error = word_error(said, heard)
    assert (error.errors, error.rate, error.lost, error.added) == (0, 0.0, (), ())


def test_errors_are_counted_as_levenshtein_counts_them():
    error = word_error("the cat sat on the mat", "the cat on a mat today")
    assert (error.errors, error.words) == (3, 6)
    assert error.rate == pytest.approx(0.5)
    assert error.lost == ("sat", "the")
    assert error.added == ("today",)


def test_a_word_misspelt_is_an_error_but_not_lost():
    error = word_error("please call Anouk", "please call Anook")
    assert error.errors == 1 and error.lost == ()
    assert word_error("please call Anouk", "please call the").lost == ("anouk",)


def test_nothing_heard_loses_every_word_and_nothing_said_loses_none():
    assert word_error("good morning", "").lost == ("good", "morning")
    error = word_error("", "thank you")
    assert (error.errors, error.rate, error.lost, error.added) == (2, 2.0, (), ("thank", "you"))


def test_pairs_keep_the_order_and_lose_no_word():
    error = word_error("one green bottle hanging on the wall", "green bottles hung on that wall there")
    assert " ".join(a for a, _ in error.pairs if a).split() == normal_words("one green bottle hanging on the wall")
    assert " ".join(b for _, b in error.pairs if b).split() == normal_words("green bottles hung on that wall there")


def test_homophones_are_english_alone():
    assert word_error("their", "there", "en-GB").errors == 0
    assert word_error("their", "there", "de").errors == 1


def test_languages_without_spaces_are_compared_by_letter():
    error = word_error("今天天气好", "今天天气", "zh")
    assert (error.errors, error.words) == (1, 5)
    assert text_of(("今天", "好"), "zh") == "今天好" and text_of(("good", "day"), "en") == "good day"


def test_long_texts_take_the_way_through_their_anchors():
    parts = ("ba", "do", "gi", "ku", "le", "mo", "ni", "pu", "ra", "so")
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(parts, 4)) for _ in range(600)]
    heard = words[:100] + words[101:500] + ["zebra"] + words[500:]
    error = word_error(" ".join(words), " ".join(heard))
    assert error.errors == 2 and error.added == ("zebra",) and error.lost == (words[100],)


def test_sounds_are_compared_by_the_dictionary():
    assert sounds_same("2", "too") and not sounds_same("cat", "dog")
    assert sounds_alike("walk", "walked") and not sounds_alike("walk", "green")
