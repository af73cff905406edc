"""Characters in a policy that deceive its reader are found, and honest ones are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairturn_console.policy.characters import deceptive


def said(text: str) -> list[str]:
    return [str(problem) for problem in deceptive(text)]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("аnna@example.com", "'аnna' mixes Cyrillic and Latin letters: U+0430 CYRILLIC SMALL LETTER A"),
        ("key-accοunts", "'accοunts' mixes Latin and Greek letters: U+03BF GREEK SMALL LETTER OMICRON"),
        ("Москвa", "'Москвa' mixes Cyrillic and Latin letters: U+0061 LATIN SMALL LETTER A"),
        ("Ελλάδa", "'Ελλάδa' mixes Greek and Latin letters: U+0061 LATIN SMALL LETTER A"),
        ("BAD_ТО", "'BAD_ТО' mixes Latin and Cyrillic letters: U+0422 CYRILLIC CAPITAL LETTER TE"),
        ("hs_СОО", "'hs_СОО' mixes Latin and Cyrillic letters"),
        ("МЕХІСО", "'МЕХІСО' is in Cyrillic letters that look like Latin ones: U+041C CYRILLIC CAPITAL LETTER EM"),
        ("А1", "'А1' is in Cyrillic letters that look like Latin ones"),
        ("ΑΒΒ", "'ΑΒΒ' is in Greek letters that look like Latin ones: U+0391 GREEK CAPITAL LETTER ALPHA"),
        ("a \u202e b", "U+202E RIGHT-TO-LEFT OVERRIDE turns around what is shown; take it out"),
        ("# \u2066", "U+2066 LEFT-TO-RIGHT ISOLATE turns around what is shown; take it out"),
        ("Fran\u200bce", "U+200B ZERO WIDTH SPACE is there, and nobody sees it; take it out"),
        ("Fran\u00adce", "U+00AD SOFT HYPHEN is there, and nobody sees it; take it out"),
        ("France\ufeff", "U+FEFF ZERO WIDTH NO-BREAK SPACE is there, and nobody sees it; take it out"),
        ("France\u200d", "U+200D ZERO WIDTH JOINER is there, and nobody sees it; take it out"),
        ("France\u3164", "U+3164 HANGUL FILLER is there, and nobody sees it; take it out"),
    ],
)
def test_a_character_that_deceives_is_named_with_its_line(text: str, what: str) -> None:
    (only,) = said(f"\nname: {text}\n")
    assert only.startswith(f"line 2: {what}")


@pytest.mark.parametrize(
    "text",
    [
        "France, Réunion, Straße, Łódź, İstanbul, Việt Nam, e\u0301te\u0301",
        "Ελλάδα και Κύπρος",
        "Россия, Україна, Ўзбекистон",
        "Հայաստան",
        "日本、東京tower、Tシャツ、カタカナとひらがな",
        "中国, 台灣, 대한민국",
        "السعودية ۱۲۳, ישראל, ไทย, भारत",
        "می\u200cخواهم, क्\u200dष",
        "👩\u200d💻, ❤️, 5µm, ½, №5",
        "France, Россия, Ελλάδα",
        "\ufeffreps:",
        "Δt, λx, 5Ω",
        "Москва\nМЕХ",
        "שלום\u200f!",
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    ],
)
def test_no_script_and_no_accent_is_doubted(text: str) -> None:
    assert said(text) == []


def test_each_line_is_told_once() -> None:
    assert len(said("аnna аnna\u200b\nаnna")) == 2


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_nothing_in_ascii_is_doubted(text: str) -> None:
    assert said(text) == []


@given(st.text())
def test_any_text_can_be_looked_at(text: str) -> None:
    said(text)
