"""Policy files: problems are told with their lines, and the example is sound."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairturn.errors import PolicyInvalid
from fairturn.rules.conditions import In
from fairturn.rules.events import Kind, Message
from fairturn.rules.policy import Policy
from fairturn.rules.routing import Ignored, Lead, Route, is_closed, route
from fairturn_console.policy.file import MAX_BYTES, check, load

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = datetime(2026, 11, 25, tzinfo=UTC)
EXAMPLE = Path(__file__).parents[2] / "policy.yaml"

SMALL = """\
reps:
  anna@example.com:
teams:
  inbound: {members: [anna@example.com]}
rules:
  - name: first
    when:
      - {property: country, in: [NO, yes, 2026-12-24, 1_000, 0x10, "5", 5, 6.0, true, .5, 1.5e1]}
    team: inbound
otherwise:
  team: inbound
"""


def problems(source: Path | str) -> list[str]:
    with pytest.raises(PolicyInvalid) as caught:
        load(source)
    return [str(problem) for problem in caught.value.problems]


def problem(source: Path | str) -> str:
    (only,) = problems(source)
    return only


# The worked example


def example(source: str = "FORM", **properties: str) -> Route | Ignored:
    facts: Mapping[str, str | None] = properties
    message = Message(id="1", kinds=(Kind.CREATION,), occurred_at=1, change_source=source)
    return route(Lead(message, facts), load(EXAMPLE))


def test_the_example_says_in_its_head_what_it_does() -> None:
    comment = [line for line in EXAMPLE.read_text().splitlines() if line.startswith("# ")]
    assert " ".join(comment).count(". ") + 1 <= 3


def test_the_example_sends_leads_where_its_head_says() -> None:
    def way(source: str = "FORM", **properties: str) -> tuple[str, str, str]:
        found = example(source, **properties)
        assert isinstance(found, Route)
        return found.rota, found.lane, str(found.priority)

    assert way(numemployees="1000+", country="France") == ("key-accounts", "enterprise@0", "urgent")
    assert way(country="REUNION ") == ("europe", "fr@0", "high")
    assert way(country="austria") == ("europe", "de@0", "normal")
    assert way() == ("inbound", "any@0", "normal")
    assert way(seats="25") == ("inbound", "any@20", "normal")
    assert way("IMPORT", message="A demo, please", country="France") == ("inbound", "any@0", "low")


def test_the_example_ignores_what_its_head_says() -> None:
    assert example(email="eve@Rival.example.com", numemployees="1000+") == Ignored(
        "not a buyer", "competitors and job seekers", "10"
    )
    assert isinstance(example(jobtitle="Student"), Ignored)
    assert isinstance(example("IMPORT", country="France"), Ignored)


def test_the_example_closes_what_its_head_says() -> None:
    assert is_closed({"hs_lead_status": "BAD_TIMING"}, load(EXAMPLE))
    assert not is_closed({"hs_lead_status": "OPEN"}, load(EXAMPLE))


def test_the_example_survives_being_stored() -> None:
    policy = load(EXAMPLE)
    assert Policy.load(policy.dump()) == policy


# YAML, strictly


def test_only_true_and_false_are_truth_values_and_only_plain_numbers_are_numbers() -> None:
    texts = ["NO", "yes", "2026-12-24", "1_000", "0x10", "5"]
    condition = load(SMALL).rules[0].when[0]
    assert isinstance(condition, In)
    others = [True, 5, 6, 0.5, 15]
    assert [value for value in condition.value if isinstance(value, str)] == texts
    assert sorted(map(repr, condition.value)) == sorted(map(repr, [*texts, *others]))


def test_a_file_and_its_text_give_the_same(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(SMALL)
    assert load(file) == load(SMALL)
    file.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert load(file) == load(SMALL)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("in: [NO", "at_least: x, in: [NO", "line 8, rules[0].when[0]: has several operators"),
        (
            "    team: inbound",
            "    team: inbond",
            "line 9, rules[0].team: unknown team 'inbond', did you mean",
        ),
        ("    team: inbound\n", "", "line 6, rules[0].team: is missing"),
        (
            "  team: inbound\n",
            "  taem: inbound\n",
            "line 9, rules[0].taem: unknown key 'taem', did you mean 'team'?",
        ),
        (
            "[anna@example.com]",
            "[\n  anna@example.com,\n  eve@x.y]",
            "line 6, teams.inbound.members[1]: unknown rep",
        ),
        (
            "anna@example.com:",
            "Anna@example.com: {zone: Mars}",
            "line 2, reps.Anna@example.com.zone: unknown time",
        ),
        ("otherwise:\n  team: inbound\n", "", "line 1, otherwise: is missing"),
        ("reps:", "reps: &reps", "line 1: anchors (&) and aliases (*) are not allowed"),
        ("  inbound: {", "  inbound: *rota # {", "line 4: anchors (&) and aliases (*) are not allowed"),
        ("reps:", "&reps reps:", "line 1: a key must be plain text"),
        ("reps:", "!!str reps:", "line 1: tags (!) are not allowed"),
        ("  - name: first", "  - name: !!str first", "line 6: tags (!) are not allowed"),
        (
            "    team: inbound",
            "    team: inbound\n    team: inbound",
            "line 10: rules[0].team: this key is there already,",
        ),
        ("otherwise:", "---\notherwise:", "line 10: a second document begins here"),
        ("reps:", "%YAML 1.1\n---\nreps:", "line 2: directives (%) are not allowed"),
        ("    when:", "\twhen:", "line 7: indented with a tab"),
        ("      - {", "      - {{", "line 8: a key must be plain text"),
        ("      - {property", "      - [property", "line 8: not YAML:"),
        ("rules:", "<<: {mode: pause}\nrules:", "line 5, <<: unknown key '<<'"),
        ("country", '"\\uD800"', "line 8, rules[0].when[0].property: "),
    ],
)
def test_a_problem_has_its_line(before: str, after: str, said: str) -> None:
    assert before in SMALL
    assert any(found.startswith(said) for found in problems(SMALL.replace(before, after, 1)))


def warnings(text: str) -> list[str]:
    return [str(warning) for warning in check(text).warnings(NOW)]


def test_a_warning_has_its_line() -> None:
    scored = "leads:\n  worth:\n    property: hubspotscore\n    bands: [20, 60]\nrelease: 2h\n"
    assert [warning.partition(": ")[0] for warning in warnings(SMALL + scored)] == ["line 14, leads.worth.property"]
    assert warnings(SMALL + "# nobody sees this\u200b\n") == [
        "line 12: U+200B ZERO WIDTH SPACE is there, and nobody sees it; take it out"
    ]
    assert warnings(SMALL) == []


def test_the_example_warns_of_nothing() -> None:
    assert check(EXAMPLE).warnings(NOW) == []


def test_a_release_is_written_as_0_or_with_its_unit() -> None:
    assert [load(f"{SMALL}release: {text}").release for text in ("0", "0m", "15m", "2h", '"15m"')] == [
        0,
        0,
        15,
        120,
        15,
    ]
    assert problem(f"{SMALL}release: 15").startswith("line 12, release: must be 0, minutes such as 15m")
    assert problem(f"{SMALL}release: false").startswith("line 12, release: must be 0, minutes such as 15m")


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing yet\n", "---\n", "null"])
def test_an_empty_file_is_refused(text: str) -> None:
    assert problem(text) == "empty: there is no policy in it"


def test_a_file_that_is_no_mapping_is_refused() -> None:
    assert problem("- 1") == "line 1: must be a mapping of keys to values"


def test_a_file_that_is_not_utf8_is_refused_with_the_line(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_bytes("# a\n# é\n".encode("latin-1"))
    assert problem(file) == "line 2: not UTF-8; save the file in that encoding"


def test_a_file_over_256_kb_is_refused_unread_with_the_line_that_goes_beyond(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_bytes(b"[" * (MAX_BYTES + 1))
    assert problem(file) == "line 1: larger than 256 KB from here on"
    assert problem("#" + "é" * (MAX_BYTES // 2)) == "line 1: larger than 256 KB from here on"
    file.write_bytes(b"#" * 1023 + b"\n" + (b"#" * 1023 + b"\n") * 300)
    assert problem(file) == "line 257: larger than 256 KB from here on"


def test_a_policy_that_would_not_fit_into_the_table_is_refused_with_its_largest_part() -> None:
    times = ", ".join(f"{hour:02}:00-{hour:02}:30" for hour in range(12))
    reps = "".join(f"  {number}: {{zone: UTC, hours: {{mon-sun: [{times}]}}}}\n" for number in range(600))
    assert problem(SMALL.replace("teams:", f"{reps}teams:")) == (
        "line 1, reps: too large to be stored: take out reps, hours, members or entries of lists; "
        "this part is the largest"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: \x00", "line 2: not YAML: U+0000 NUL is a forbidden character"),
        ("a: 1\r\n\r\nb: '\x1b'", "line 3: not YAML: U+001B is a forbidden character"),
        ("# \x7f", "line 1: not YAML: U+007F is a forbidden character"),
        ("a: \ufffe", "line 1: not YAML: U+FFFE is a forbidden character"),
        ("a: \ud800", "line 1: not YAML: U+D800 is a forbidden character"),
        ('a: 1\nb: "\\UFFFFFFFF"', "line 2: not YAML: \\UFFFFFFFF names no character"),
        ('a: "\\U0010ffff"\nb: "\\U00110000"', "line 2: not YAML: \\U00110000 names no character"),
        ('a: 1\nb: "\\q"', "line 2: not YAML: while scanning a double-quoted scalar, found unknown escape character"),
        ('a: 1\nb: "\\xq"', "line 2: not YAML: while scanning a double-quoted scalar, expected escape sequence"),
    ],
)
def test_characters_and_escapes_that_yaml_forbids_are_refused_with_their_line(text: str, said: str) -> None:
    assert problem(text).startswith(said)


@pytest.mark.parametrize("text", ["[" * 50_000, "{a: " * 50_000, "- " * 50_000])
def test_a_bottomless_file_is_refused(text: str) -> None:
    assert "nested more than 40 deep" in problem(text) or "not YAML" in problem(text)


@given(st.text(max_size=60) | st.text("[]{}:,-&*!%#'\"|>?@` \n\tab1", max_size=60))
def test_text_of_any_kind_is_refused_and_never_crashes(text: str) -> None:
    assert problems(text)
