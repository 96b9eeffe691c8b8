import numpy as np
import pytest

from mouthpiece.voice.asr.wer import count_word_errors, is_homophone, is_similar_sounding, join_words, normalize_words


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
    error = count_word_errors(said, heard)
    assert (error.errors, error.rate, error.lost, error.added) == (0, 0.0, (), ())


def test_errors_are_counted_as_levenshtein_counts_them():
    error = count_word_errors("the cat sat on the mat", "the cat on a mat today")
    assert (error.errors, error.words) == (3, 6)
    assert error.rate == pytest.approx(0.5)
    assert error.lost == ("sat", "the")
    assert error.added == ("today",)


def test_a_word_misspelt_is_an_error_but_not_lost():
    error = count_word_errors("please call Anouk", "please call Anook")
    assert error.errors == 1 and error.lost == ()
    assert count_word_errors("please call Anouk", "please call the").lost == ("anouk",)


def test_nothing_heard_loses_every_word_and_nothing_said_loses_none():
    assert count_word_errors("good morning", "").lost == ("good", "morning")
    error = count_word_errors("", "thank you")
    assert (error.errors, error.rate, error.lost, error.added) == (2, 2.0, (), ("thank", "you"))


def test_pairs_keep_the_order_and_lose_no_word():
    error = count_word_errors("one green bottle hanging on the wall", "green bottles hung on that wall there")
    assert " ".join(a for a, _ in error.pairs if a).split() == normalize_words("one green bottle hanging on the wall")
    assert " ".join(b for _, b in error.pairs if b).split() == normalize_words("green bottles hung on that wall there")


def test_homophones_are_english_alone():
    assert count_word_errors("their", "there", "en-GB").errors == 0
    assert count_word_errors("their", "there", "de").errors == 1


def test_languages_without_spaces_are_compared_by_letter():
    error = count_word_errors("今天天气好", "今天天气", "zh")
    assert (error.errors, error.words) == (1, 5)
    assert join_words(("今天", "好"), "zh") == "今天好" and join_words(("good", "day"), "en") == "good day"


def test_long_texts_take_the_way_through_their_anchors():
    parts = ("ba", "do", "gi", "ku", "le", "mo", "ni", "pu", "ra", "so")
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(parts, 4)) for _ in range(600)]
    heard = words[:100] + words[101:500] + ["zebra"] + words[500:]
    error = count_word_errors(" ".join(words), " ".join(heard))
    assert error.errors == 2 and error.added == ("zebra",) and error.lost == (words[100],)


def test_sounds_are_compared_by_the_dictionary():
    assert is_homophone("2", "too") and not is_homophone("cat", "dog")
    assert is_similar_sounding("walk", "walked") and not is_similar_sounding("walk", "green")
