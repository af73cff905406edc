"""Lists of a policy: written in it, in a file beside it, or built in; and what is in a list."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairturn.errors import PolicyInvalid
from fairturn.rules.conditions import Facts, InList, fold
from fairturn.rules.policy import Policy
from fairturn_console.policy import reading
from fairturn_console.policy.doubts import doubts
from fairturn_console.policy.file import check
from fairturn_console.policy.lists import BUILT_IN, MAX_BYTES, MAX_ENTRIES

if TYPE_CHECKING:
    from pathlib import Path

ANNA = "anna@example.com"
NOW = datetime(2026, 11, 25, tzinfo=UTC)


def raw(lists: dict[str, Any], *asked: str) -> dict[str, Any]:
    """Return a policy with these lists, of which some are asked for."""
    when = {"any": [{"property": "email", "in_list": name} for name in asked or lists]}
    return {
        "lists": lists,
        "teams": {"inbound": ANNA},
        "rules": [{"name": "listed", "when": when, "team": "inbound"}],
        "otherwise": {"team": "inbound"},
    }


def read(written: object, folder: Path) -> frozenset[str]:
    return reading.read(raw({"named": written}), folder=folder).lists["named"]


def refused(written: object, folder: Path) -> str:
    with pytest.raises(PolicyInvalid) as caught:
        read(written, folder)
    (only,) = map(str, caught.value.problems)
    return only


FILE = {"file": "named.csv", "column": "domain"}

# Where they come from


def test_a_list_may_be_written_in_the_policy(tmp_path: Path) -> None:
    assert read(["Acme.example ", "@réunion.example", "ACME.EXAMPLE"], tmp_path) == {"acme.example", "reunion.example"}


@pytest.mark.parametrize(
    "content",
    [
        b"domain\nacme.example\nbeta.example\n",
        b"\xef\xbb\xbfdomain\nacme.example\nbeta.example\n",
        b'account,domain\r\nAcme,Acme.example\r\n"Beta, Inc.",beta.example\r\n',
        b"account;domain\nAcme;acme.example\nBeta, Inc.;beta.example\n",
        b"domain,account\nacme.example\nbeta.example,Beta,more\n,nothing\n  ,blanks\n",
    ],
    ids=["plain", "with a mark of its encoding", "with commas", "with semicolons", "uneven"],
)
def test_a_list_may_be_a_column_of_a_csv_file_beside_the_policy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "named.csv").write_bytes(content)
    assert read(FILE, tmp_path) == {"acme.example", "beta.example"}


def test_a_file_is_looked_for_beside_the_policy_file(tmp_path: Path) -> None:
    (tmp_path / "named.csv").write_text("domain\nacme.example\n")
    file = tmp_path / "policy.yaml"
    file.write_text(
        "lists: {named: {file: named.csv, column: domain}}\n"
        "teams: {inbound: [anna@example.com]}\n"
        "rules: [{name: x, when: {property: email, in_list: named}, team: inbound}]\n"
        "otherwise: {team: inbound}\n"
    )
    assert check(file).policy.lists == {"named": {"acme.example"}}


def test_the_domains_of_free_mailboxes_are_built_in(tmp_path: Path) -> None:
    found = reading.read(raw({"freemail": "built in"}), folder=tmp_path).lists["freemail"]
    assert found == {*BUILT_IN["freemail"]}
    assert {"gmail.com", "gmx.de", "orange.fr", "bluewin.ch", "yahoo.co.uk"} <= found
    assert all(entry == fold(entry) and "." in entry for entry in found)
    assert BUILT_IN["freemail"] == sorted(set(BUILT_IN["freemail"]))


def test_lists_are_stored_with_the_policy(tmp_path: Path) -> None:
    policy = reading.read(raw({"named": ["a.example", "b.example"]}), folder=tmp_path)
    assert Policy.load(policy.dump()) == policy


# What is refused


def test_a_file_that_can_not_be_read_is_told_with_the_reason(tmp_path: Path) -> None:
    assert refused(FILE, tmp_path) == "lists.named: there is no file named.csv beside the policy"
    (tmp_path / "named.csv").mkdir()
    assert refused(FILE, tmp_path).startswith("lists.named: named.csv can't be read: ")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"account,Domain\nAcme,a.example\n", "named.csv has no column 'domain'; it has: account, Domain"),
        (b"", "named.csv has no column 'domain'; it has: none"),
        (b"domain\n", "has nothing in it"),
        (b"domain\n \n@\n", "has nothing in it"),
        (b"domain\nR\xe9union.example\n", "named.csv is not UTF-8; save it as CSV in that encoding"),
        (b'domain\n"a.example\n', "named.csv is no CSV: unexpected end of data"),
        (b"domain\n" + b"x" * MAX_BYTES, "named.csv is larger than 1 MB"),
        (
            b"domain\n" + b"".join(b"%d.example\n" % number for number in range(MAX_ENTRIES + 1)),
            "has 5,001 entries; at most 5,000",
        ),
    ],
    ids=["no column", "no line", "no entry", "only blanks", "latin 1", "an open quote", "too large", "too many"],
)
def test_a_file_that_holds_no_such_list_is_told_with_the_reason(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "named.csv").write_bytes(content)
    assert refused(FILE, tmp_path) == f"lists.named: {what}"


@pytest.mark.parametrize(
    ("written", "what"),
    [
        ([], ": must have at least 1, has 0"),
        (["a.example", 5], "[1]: must be text; put it in quotes"),
        ("built in", ": is not built in; built in are: freemail"),
        ("a.example", ": must be a list such as [acme.example], {file: named.csv, column: domain}, or `built in`"),
        ({"file": "named.csv"}, ".column: is missing"),
        ({"file": "named.csv", "colum": "a"}, ".column: is missing"),
    ],
)
def test_a_list_that_is_written_wrongly_is_named_with_its_place(tmp_path: Path, written: object, what: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        read(written, tmp_path)
    assert str(caught.value.problems[0]) == f"lists.named{what}"


def test_a_list_that_is_not_there_is_told_with_what_may_be_meant(tmp_path: Path) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        reading.read(raw({"named": ["a.example"]}, "name"), folder=tmp_path)
    (only,) = map(str, caught.value.problems)
    assert only == "rules[0].when[0].any[0].in_list: unknown list 'name', did you mean 'named'? allowed: named"


def test_a_list_for_which_no_condition_asks_is_doubted(tmp_path: Path) -> None:
    policy = reading.read(raw({"named": ["a.example"], "other": ["b.example"]}, "named"), folder=tmp_path)
    assert [str(doubt) for doubt in doubts(policy, NOW)] == ["lists.other: is asked for by no condition"]


# What is in a list

NAMED = frozenset({"acme.example", "reunion.example", "eve@beta.example", "acme gmbh"})


def is_in(value: str | None) -> bool:
    return Facts({"p": value}, lists={"named": NAMED}).holds(InList("p", "named"), [])


@pytest.mark.parametrize(
    "value",
    [
        "acme.example",
        " ACME.example",
        "eva@acme.example",
        "eva@mail.Acme.example",
        "eu.www.acme.example",
        "eva@RÉUNION.example",
        "Eve@beta.example",
        '"a@b"@acme.example',
        "Acme GmbH",
    ],
)
def test_an_entry_its_subdomains_and_addresses_there_are_in_the_list(value: str) -> None:
    assert is_in(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "notacme.example",
        "acme.example.org",
        "example",
        "eva@acme.example@rival.example",
        "adam@beta.example",
        "acme",
        "Acme GmbH & Co",
        ".",
        "@",
    ],
)
def test_what_only_looks_like_an_entry_is_not_in_the_list(value: str | None) -> None:
    assert not is_in(value)


@given(st.text(max_size=80) | st.text("a.@", max_size=40), st.frozensets(st.text("a.@", min_size=1, max_size=4)))
def test_any_value_is_looked_up_and_each_entry_finds_itself(value: str, entries: frozenset[str]) -> None:
    folded = frozenset(map(fold, entries)) - {""}
    facts = Facts({"p": value}, lists={"named": folded})
    assert facts.holds(InList("p", "named"), []) in (True, False)
    for entry in folded:
        assert Facts({"p": entry}, lists={"named": folded}).holds(InList("p", "named"), [])
