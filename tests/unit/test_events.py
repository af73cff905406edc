"""What we understand of HubSpot's events, and what messages come of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairturn.errors import EventRejected, MessageRejected
from fairturn.rules.events import (
    BULK_SOURCES,
    DATED,
    EVENT_ONLY,
    RETURNS,
    Event,
    Kind,
    Message,
    is_return,
    is_test,
    read_event,
    sort_events,
)

AT = 1_793_527_199_400


def raw(subscription_type: str = "contact.creation", **fields: Any) -> dict[str, Any]:
    return {
        "eventId": 2905479219,
        "subscriptionId": 4578255,
        "portalId": 62515,
        "appId": 19635961,
        "occurredAt": AT,
        "subscriptionType": subscription_type,
        "attemptNumber": 0,
        "objectId": 546500061938,
        "changeSource": "CRM_UI",
        "sourceId": "userId:52530071",
        **fields,
    }


def event(
    kind: Kind = Kind.CREATION, id_: int = 1, at: int = AT, source: str = "FORM", merged: tuple[str, ...] = ()
) -> Event:
    return Event(62515, kind, str(id_), at, source, merged)


def message(**fields: Any) -> Message:
    return Message(**{"id": "1", "kinds": (Kind.CREATION,), "occurred_at": AT, "change_source": "FORM", **fields})


# Reading an event

TOLD = [kind for kind in Kind if kind is not Kind.FOUND]


@pytest.mark.parametrize("kind", [kind for kind in TOLD if kind is not Kind.MERGE])
def test_classic_and_generic_forms_say_the_same(kind: Kind) -> None:
    expected = Event(62515, kind, "546500061938", AT, "CRM_UI")
    assert read_event(raw(f"contact.{kind}")) == expected
    assert read_event(raw(f"object.{kind}", objectTypeId="0-1")) == expected


def test_event_type_is_taken_for_subscription_type() -> None:
    fields = raw()
    fields["eventType"] = fields.pop("subscriptionType")
    assert read_event(fields) == read_event(raw())


def test_unknown_fields_flags_and_sources_do_no_harm() -> None:
    read = read_event(raw(isSensitive=False, changeFlag={"new": ["shape"]}, changeSource="NEXT_YEARS_SOURCE", x=[{}]))
    assert read == Event(62515, Kind.CREATION, "546500061938", AT, "NEXT_YEARS_SOURCE")


@pytest.mark.parametrize(
    ("given_source", "source"),
    [
        (None, "UNKNOWN"),
        ("", "UNKNOWN"),
        (7, "UNKNOWN"),
        ({}, "UNKNOWN"),
        ('a "b"\né\ud800', "a__b____"),
        ("X" * 99, "X" * 64),
    ],
)
def test_a_source_is_always_a_short_plain_name(given_source: object, source: str) -> None:
    read = read_event(raw(changeSource=given_source))
    assert read is not None
    assert read.change_source == source


def test_an_event_without_a_source_is_understood() -> None:
    fields = raw()
    del fields["changeSource"]
    read = read_event(fields)
    assert read is not None
    assert read.change_source == "UNKNOWN"
    assert read.makes_lead


@pytest.mark.parametrize(("value", "id_"), [(2**63 - 1, str(2**63 - 1)), ("0042", "42"), (2**32, "4294967296")])
def test_ids_have_64_bits_and_may_be_digits(value: object, id_: str) -> None:
    read = read_event(raw(objectId=value))
    assert read is not None
    assert read.id == id_


def written(**fields: Any) -> dict[str, Any]:
    """HubSpot tells of an owner that was written with our own token."""
    ours = {"propertyName": "hubspot_owner_id", "propertyValue": "77", "changeSource": "INTEGRATION"}
    return raw("object.propertyChange", objectTypeId="0-1", **{**ours, "sourceId": "19635961", **fields})


def test_an_owner_that_was_written_with_our_token_is_an_echo_and_its_message_says_whose() -> None:
    read = read_event(written())
    assert read is not None
    assert read.echo == "77"
    _, (queued,) = sort_events([read, read])
    assert queued.echo == "77"
    assert Message.read(queued.body()).echo == "77"


@pytest.mark.parametrize(
    "fields",
    [
        {"sourceId": "19635962"},
        {"sourceId": None},
        {"appId": None, "sourceId": None},
        {"changeSource": "CRM_UI"},
        {"propertyName": "lifecyclestage"},
        {"propertyValue": ""},
        {"propertyValue": "anna@example.com"},
        {"subscriptionType": "contact.creation"},
    ],
)
def test_what_somebody_else_wrote_or_took_away_is_no_echo(fields: dict[str, Any]) -> None:
    read = read_event(written(**fields))
    assert read is not None
    assert read.echo is None


@pytest.mark.parametrize("fields", [{"propertyValue": "78"}, {"changeSource": "CRM_UI"}, {"propertyName": "city"}])
def test_a_message_that_tells_more_than_one_owner_of_ours_is_no_echo(fields: dict[str, Any]) -> None:
    events = [event for event in (read_event(written()), read_event(written(**fields))) if event is not None]
    _, (queued,) = sort_events(events)
    assert queued.echo is None


@pytest.mark.parametrize("echo", ["x", 0, [], True])
def test_an_echo_that_is_no_owner_is_refused(echo: object) -> None:
    body = json.loads(message(kinds=(Kind.PROPERTY_CHANGE,)).body()) | {"echo": echo}
    with pytest.raises(MessageRejected, match="echo: "):
        Message.read(json.dumps(body))


NO_IDS: list[object] = [
    None,
    True,
    False,
    0,
    -1,
    1.0,
    1.5,
    2**63,
    "",
    "-1",
    " 1",
    "1\n",
    "1_0",
    "1e3",
    "0x1",
    "١",
    "9" * 20,
    "0" * 19 + "1",
    [1],
    {},
]


@pytest.mark.parametrize("value", NO_IDS)
@pytest.mark.parametrize("field", ["objectId", "portalId", "occurredAt"])
def test_what_is_not_an_id_is_rejected(field: str, value: object) -> None:
    with pytest.raises(EventRejected, match=f"^{field}: "):
        read_event({**raw(), field: value})


@pytest.mark.parametrize("field", ["objectId", "portalId", "occurredAt", "subscriptionType"])
def test_what_is_missing_is_named(field: str) -> None:
    fields = raw()
    del fields[field]
    with pytest.raises(EventRejected, match=f"^{field}: "):
        read_event(fields)


def test_a_time_beyond_thirteen_digits_is_rejected() -> None:
    with pytest.raises(EventRejected, match=r"^occurredAt: "):
        read_event(raw(occurredAt=10**13))


@pytest.mark.parametrize("kind", TOLD)
@pytest.mark.parametrize(("occurred_at", "read_as"), [(AT - 1, AT - 1), (AT, AT), (AT + 1, AT), (10**13 - 1, AT)])
def test_nothing_happened_after_the_request_came(kind: Kind, occurred_at: int, read_as: int) -> None:
    read = read_event({**merge(occurredAt=occurred_at), "subscriptionType": f"contact.{kind}", "objectId": 1}, AT)
    assert read is not None
    assert read.occurred_at == read_as


def test_no_event_can_say_that_we_have_found_something() -> None:
    assert read_event(raw("contact.found")) is None


def test_a_rejection_names_no_value() -> None:
    with pytest.raises(EventRejected) as rejection:
        read_event(raw(objectId="lead@example.com"))
    assert "lead@example.com" not in str(rejection.value)
    assert "lead@example.com" not in str(rejection.value.__cause__)


@pytest.mark.parametrize(
    "fields",
    [
        raw("company.creation"),
        raw("deal.propertyChange"),
        raw("contact.associationChange"),
        raw("object.associationChange"),
        raw("conversation.newMessage"),
        raw("conversation.privacyDeletion"),
        raw("contact.somethingNew"),
        raw("object.creation", objectTypeId="0-3"),
        raw("contact"),
        raw("contact.creation.more"),
        raw("Contact.Creation"),
        {"subscriptionType": "deal.creation"},
    ],
)
def test_types_that_nobody_asked_for_are_none(fields: dict[str, Any]) -> None:
    assert read_event(fields) is None


@pytest.mark.parametrize("type_id", [None, 1, ["0-1"]])
def test_a_generic_event_must_say_of_what(type_id: object) -> None:
    with pytest.raises(EventRejected, match=r"^objectTypeId: "):
        read_event(raw("object.creation", objectTypeId=type_id))


@pytest.mark.parametrize("name", [None, 7, [], {"a": 1}])
def test_a_type_that_is_no_name_is_rejected(name: object) -> None:
    with pytest.raises(EventRejected, match=r"^subscriptionType: "):
        read_event(raw(subscriptionType=name))


def merge(**fields: Any) -> dict[str, Any]:
    both = {**raw("contact.merge"), "primaryObjectId": 10, "mergedObjectIds": [11, "12"], **fields}
    del both["objectId"]
    return both


@pytest.mark.parametrize("new", [{}, {"newObjectId": None}, {"newObjectId": 10}])
def test_a_merge_is_about_the_primary_record(new: dict[str, Any]) -> None:
    read = read_event(merge(**new))
    assert read == Event(62515, Kind.MERGE, "10", AT, "CRM_UI", ("11", "12"))


def test_a_merge_into_a_new_record_is_about_that_one() -> None:
    read = read_event(merge(newObjectId=20))
    assert read == Event(62515, Kind.MERGE, "20", AT, "CRM_UI", ("10", "11", "12"))


def test_a_merge_names_each_id_once_and_never_the_survivor() -> None:
    read = read_event(merge(mergedObjectIds=[11, 10, 11, "011"]))
    assert read is not None
    assert (read.id, read.merged) == ("10", ("11",))


@pytest.mark.parametrize(
    "fields",
    [
        {"primaryObjectId": None},
        {"mergedObjectIds": []},
        {"mergedObjectIds": [10]},
        {"mergedObjectIds": 11},
        {"mergedObjectIds": [11, True]},
        {"mergedObjectIds": list(range(1, 1_002))},
        {"newObjectId": 1.0},
    ],
)
def test_a_merge_that_does_not_say_of_whom_is_rejected(fields: dict[str, Any]) -> None:
    with pytest.raises(EventRejected, match="ObjectId"):
        read_event(merge(**fields))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None, exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from([*raw(), "objectTypeId", "primaryObjectId", "mergedObjectIds", "newObjectId", "eventType"]),
        json_values,
    ),
    st.sampled_from([f"{noun}.{kind}" for noun in ("contact", "object") for kind in Kind]),
)
def test_an_event_of_any_shape_is_read_or_rejected(fields: dict[str, Any], name: str) -> None:
    for shape in (
        fields,
        raw(**fields),
        {**merge(**fields), "subscriptionType": name, "objectTypeId": "0-1"},
    ):
        try:
            read = read_event(shape)
        except EventRejected:
            continue
        assert read is None or int(read.id) > 0


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"eventId": 100, "objectId": 123}, True),
        ({"eventId": 100, "objectId": 123, "subscriptionType": "deal.creation", "portalId": None}, True),
        ({"eventId": 100}, False),
        ({"objectId": 123}, False),
        ({"eventId": 123, "objectId": 100}, False),
        ({"eventId": [100], "objectId": {"123": 123}}, False),
    ],
)
def test_the_test_button_is_known_by_both_of_its_ids(fields: dict[str, Any], expected: bool) -> None:  # noqa: FBT001
    assert is_test(raw(**fields)) is expected


# Sorting


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("source", ["FORM", "UNKNOWN", *sorted(BULK_SOURCES)])
def test_only_a_creation_that_is_not_bulk_goes_to_leads(kind: Kind, source: str) -> None:
    leads, changes = sort_events([event(kind, source=source)])
    wanted = kind is Kind.CREATION and source in ("FORM", "UNKNOWN")
    assert (len(leads), len(changes)) == ((1, 0) if wanted else (0, 1))


def test_the_bulk_sources_are_those_of_the_design() -> None:
    assert sorted(BULK_SOURCES) == [
        "BATCH_UPDATE",
        "CRM_UI_BULK_ACTION",
        "IMPORT",
        "INTEGRATIONS_SYNC",
        "MIGRATION",
    ]


def test_events_of_one_record_become_one_message() -> None:
    leads, changes = sort_events(
        [
            event(Kind.PROPERTY_CHANGE, at=AT + 5, source="WORKFLOWS"),
            event(Kind.CREATION, at=AT, source="FORM"),
            event(Kind.PROPERTY_CHANGE, at=AT, source="FORM"),
        ]
    )
    assert changes == []
    assert leads == [message(kinds=(Kind.CREATION, Kind.PROPERTY_CHANGE), occurred_at=AT + 5, change_source="FORM")]


def test_a_bulk_creation_goes_to_changes_with_the_source_that_brought_it() -> None:
    leads, changes = sort_events(
        [event(source="IMPORT", at=AT), event(Kind.PROPERTY_CHANGE, source="CRM_UI", at=AT + 1)]
    )
    assert leads == []
    assert changes == [message(kinds=(Kind.CREATION, Kind.PROPERTY_CHANGE), occurred_at=AT + 1, change_source="IMPORT")]


def test_somebody_elses_change_is_not_hidden_behind_one_that_may_be_ours() -> None:
    changed = [
        event(Kind.PROPERTY_CHANGE, source=source, at=AT + n) for n, source in enumerate(("CRM_UI", "INTEGRATION"))
    ]
    _, changes = sort_events(changed)
    assert changes == [message(kinds=(Kind.PROPERTY_CHANGE,), occurred_at=AT + 1, change_source="CRM_UI")]


def test_a_bulk_creation_restored_by_hand_is_a_change() -> None:
    leads, changes = sort_events([event(Kind.RESTORE, source="CRM_UI", at=AT + 1), event(source="IMPORT")])
    assert leads == []
    assert changes == [
        message(kinds=(Kind.CREATION,), occurred_at=AT, change_source="IMPORT"),
        message(kinds=(Kind.RESTORE,), occurred_at=AT + 1, change_source="CRM_UI"),
    ]


def test_a_creation_is_a_lead_and_the_restore_in_the_same_request_a_change() -> None:
    leads, changes = sort_events(
        [
            event(Kind.PROPERTY_CHANGE, at=AT + 1, source="WORKFLOWS"),
            event(Kind.RESTORE, at=AT + 3, source="CRM_UI"),
            event(source="FORM"),
        ]
    )
    assert leads == [message(kinds=(Kind.CREATION, Kind.PROPERTY_CHANGE), occurred_at=AT + 1, change_source="FORM")]
    assert changes == [message(kinds=(Kind.RESTORE,), occurred_at=AT + 3, change_source="CRM_UI")]


def test_of_several_events_that_make_a_lead_the_latest_names_the_source() -> None:
    leads, _ = sort_events([event(source="CRM_UI"), event(source="FORM", at=AT + 1)])
    assert [each.change_source for each in leads] == ["FORM"]


def test_a_merge_of_many_is_split_and_loses_none() -> None:
    merged = tuple(str(2**63 - n) for n in range(2, 102))
    kinds = set(Kind) - {Kind.RESTORE}
    leads, changes = sort_events(
        [event(kind, 2**63 - 1, 9_999_999_999_999, "X" * 64, merged if kind is Kind.MERGE else ()) for kind in kinds]
    )
    assert len(leads) == 1
    assert len(changes) == 5
    assert sorted(id_ for each in changes for id_ in each.merged) == sorted(merged)
    assert all(len(each.body().encode()) <= 1_024 for each in leads + changes)
    assert {each.kinds for each in leads} == {tuple(sorted(set(Kind) - EVENT_ONLY))}
    assert {each.kinds for each in changes} == {tuple(sorted(EVENT_ONLY - DATED)), (Kind.DELETION,)}


@pytest.mark.parametrize(
    ("deleted_at", "restored_at", "told"),
    [(AT, AT + 1, Kind.RESTORE), (AT + 1, AT, Kind.DELETION), (AT, AT, Kind.DELETION)],
)
def test_of_a_deletion_and_a_restore_in_one_request_only_the_later_is_told(
    deleted_at: int, restored_at: int, told: Kind
) -> None:
    both = [event(Kind.DELETION, at=deleted_at), event(Kind.RESTORE, at=restored_at)]
    for some in (both, both[::-1]):
        assert sort_events(some) == ([], [message(kinds=(told,), occurred_at=max(deleted_at, restored_at))])


def test_a_record_deleted_restored_and_deleted_again_was_deleted_last() -> None:
    some = [event(kind, at=AT + n) for n, kind in enumerate((Kind.DELETION, Kind.RESTORE, Kind.DELETION))]
    assert sort_events(some) == ([], [message(kinds=(Kind.DELETION,), occurred_at=AT + 2)])


def test_a_restore_of_one_record_hides_no_deletion_of_another() -> None:
    _, changes = sort_events([event(Kind.DELETION, 1), event(Kind.RESTORE, 2, at=AT + 1)])
    assert [(each.id, each.kinds) for each in changes] == [("1", (Kind.DELETION,)), ("2", (Kind.RESTORE,))]


@pytest.mark.parametrize("other", [Kind.MERGE, Kind.PRIVACY_DELETION, Kind.PROPERTY_CHANGE])
def test_what_else_is_told_with_a_deletion_has_a_message_of_its_own(other: Kind) -> None:
    merged = ("2",) if other is Kind.MERGE else ()
    _, changes = sort_events(
        [event(Kind.DELETION, at=AT + 1), event(Kind.RESTORE), event(other, at=AT + 2, merged=merged)]
    )
    told = [(each.kinds, each.occurred_at) for each in changes]
    assert told == [((Kind.DELETION,), AT + 1), ((other,), AT + 2)]  # a deletion is told with its own time


def test_merges_of_one_record_are_put_together() -> None:
    _, changes = sort_events([event(Kind.MERGE, merged=("3", "2")), event(Kind.MERGE, merged=("10", "3"))])
    assert [each.merged for each in changes] == [("2", "3", "10")]


events = st.lists(
    st.builds(
        event,
        st.sampled_from(Kind),
        st.integers(1, 4),
        st.integers(AT, AT + 3),
        st.sampled_from(["FORM", "CRM_UI", "IMPORT"]),
    ),
    max_size=12,
)


@given(events, st.randoms(use_true_random=False))
def test_the_order_of_events_makes_no_difference(some: list[Event], random: Any) -> None:
    shuffled = list(some)
    random.shuffle(shuffled)
    assert sort_events(shuffled) == sort_events(some)


def superseded(own: list[Event]) -> set[Kind]:
    """Of a deletion and a restore, the one that was taken back by the other."""
    last = {kind: max((one.occurred_at for one in own if one.kind is kind), default=0) for kind in Kind}
    if not last[Kind.DELETION] or not last[Kind.RESTORE]:
        return set()
    return {Kind.RESTORE if last[Kind.DELETION] >= last[Kind.RESTORE] else Kind.DELETION}


@given(events)
def test_a_deletion_or_restore_has_a_message_of_its_own_and_no_kind_is_lost_but_what_was_taken_back(
    some: list[Event],
) -> None:
    leads, changes = sort_events(some)
    for id_ in {each.id for each in some}:
        own = [one for one in some if one.id == id_]
        lead = [each for each in leads if each.id == id_]
        change = [each for each in changes if each.id == id_]
        assert len(lead) == any(one.makes_lead for one in own)
        dated = [each for each in change if DATED & set(each.kinds)]
        assert all(len(each.kinds) == 1 for each in dated)
        assert len(dated) == any(one.kind in DATED for one in own)
        rest = any(one.kind in EVENT_ONLY - DATED or (not lead and one.kind not in DATED) for one in own)
        assert len(change) == len(dated) + rest
        told = [kind for each in lead + change for kind in each.kinds]
        assert sorted(told) == sorted({one.kind for one in own} - superseded(own))
        for each in dated:
            assert each.occurred_at == max(one.occurred_at for one in own if one.kind in each.kinds)
    for queue in (leads, changes):
        assert queue == sorted(queue, key=lambda each: (each.occurred_at, int(each.id)))


@given(events)
def test_events_that_come_twice_change_nothing(some: list[Event]) -> None:
    assert sort_events(some * 2) == sort_events(some)


# What brings back


def test_a_restore_a_merge_or_a_find_brings_a_contact_that_may_be_older() -> None:
    assert {kind for kind in Kind if is_return({kind})} == RETURNS == {Kind.RESTORE, Kind.MERGE, Kind.FOUND}
    assert is_return({Kind.PROPERTY_CHANGE, Kind.MERGE})
    assert not is_return(set())


@pytest.mark.parametrize("kind", list(Kind))
def test_what_was_just_created_is_not_brought_back(kind: Kind) -> None:
    assert not is_return({Kind.CREATION, kind})
    assert not message(kinds=tuple({Kind.CREATION, kind})).is_return


# Messages


def test_a_message_is_written_as_the_design_says() -> None:
    assert json.loads(message(merged=("2", "3")).body()) == {
        "v": 1,
        "type": "contact",
        "id": "1",
        "kinds": ["creation"],
        "occurredAt": AT,
        "changeSource": "FORM",
        "merged": ["2", "3"],
    }


def test_a_message_without_a_merge_does_not_mention_one() -> None:
    assert message().body() == (
        f'{{"v":1,"type":"contact","id":"1","kinds":["creation"],"occurredAt":{AT},"changeSource":"FORM"}}'
    )


def test_a_message_names_its_round_only_when_the_lead_comes_again() -> None:
    assert "round" not in json.loads(message(round=1).body())
    assert json.loads(message(round=2).body())["round"] == 2
    assert Message.read(message(round=2).body()) == message(round=2)
    assert Message.read(message().body()).round == 1


def test_when_a_message_was_received_is_no_part_of_it() -> None:
    received = Message.read(message().body(), AT + 5)
    assert received.received_at == AT + 5
    assert received.body() == message().body()
    assert Message.read(received.body()).received_at is None


@pytest.mark.parametrize(("received_at", "occurred_at"), [(None, AT), (AT + 1, AT), (AT, AT), (AT - 1, AT - 1)])
def test_nothing_happened_after_its_message_was_received(received_at: int | None, occurred_at: int) -> None:
    assert Message.read(message().body(), received_at).occurred_at == occurred_at


def test_a_message_cannot_say_itself_when_it_was_received() -> None:
    body = message().body().replace('"v":1', f'"v":1,"received_at":{AT + 9}')
    assert Message.read(body).received_at is None
    assert Message.read(body, AT + 5).received_at == AT + 5


@given(events)
def test_what_is_written_can_be_read(some: list[Event]) -> None:
    leads, changes = sort_events(some)
    for each in leads + changes:
        assert Message.read(each.body()) == each


def test_a_message_of_a_later_writer_may_say_more() -> None:
    assert Message.read(message().body().replace('"v":1', '"v":1,"more":{"a":[]}')) == message()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        "\ud800",
        "[" * 100_000,
        "{}",
        message().body().replace('"v":1', '"v":2'),
        message().body().replace('"contact"', '"deal"'),
        message().body().replace('"id":"1"', '"id":"ada@example.com"'),
        message().body().replace("creation", "birth"),
        message().body().replace('["creation"]', "[]"),
        message().body().replace(str(AT), "null"),
        message(round=2).body().replace('"round":2', '"round":0'),
        message(round=2).body().replace('"round":2', '"round":1000001'),
    ],
)
def test_a_message_that_cannot_be_understood_is_rejected(body: str) -> None:
    with pytest.raises(MessageRejected) as rejection:
        Message.read(body)
    assert "ada@example.com" not in f"{rejection.value} {rejection.value.__cause__}"
