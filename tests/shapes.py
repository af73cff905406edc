"""Policies of all shapes, from a single rep to every operator, and a generator of more."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

from fairturn_console.policy import file

if TYPE_CHECKING:
    from fairturn.rules.policy import Policy

ROOT: Final = Path(__file__).parents[1]
FILES: Final = sorted([ROOT / "policy.yaml", *ROOT.glob("docs/policies/*.yaml")])
"""The policies that ship with Fairturn."""

REPS: Final = """
reps:
  ann@example.com: {weight: 2, zone: Europe/Paris, hours: {mon-fri: 09:00-18:00}}
  bob@example.com: {skills: [fr], zone: Europe/Paris, hours: {mon-fri: 09:00-18:00}}
  cat@example.com:
teams:
  sales: {members: [ann@example.com, bob@example.com, cat@example.com]}
"""
AWAY: Final = "zone: Europe/Paris, absences: [{from: 2027-01-01, to: 2027-12-31}]"
PAST: Final = "zone: Europe/Paris, absences: [{from: 2026-01-01, to: 2026-12-31}]"


def _two(rep: str) -> str:
    return f"""
reps: {{ann@example.com: {{{rep}}}, bob@example.com: {{{rep}}}}}
teams: {{sales: {{members: [ann@example.com, bob@example.com]}}}}
otherwise: {{team: sales}}
"""


SHAPES: Final = {
    "one rep": """
reps: {ann@example.com: }
teams: {sales: {members: [ann@example.com]}}
otherwise: {team: sales}
""",
    "two reps": _two(""),
    "reps by their owner ids": """
reps: {81234567: , 91234567: }
teams: {sales: {members: [81234567, 91234567]}}
otherwise: {team: sales}
""",
    "a team of one among others": f"""{REPS}
  partner: {{members: [bob@example.com]}}
rules: [{{name: italian, when: [{{property: country, in: [Italy]}}], team: partner}}]
otherwise: {{team: sales}}
""",
    "everybody is away": _two(AWAY),
    "everybody was away once": _two(PAST),
    "gives away what has an owner": f"""
leads: {{keep_owner: false, closed: [{{property: hs_lead_status, reaches: [DONE]}}]}}
{REPS}
rules: [{{name: students, when: [{{property: jobtitle, contains: student}}], ignore: no buyer}}]
otherwise: {{team: sales}}
""",
    "observe": f"mode: observe\n{REPS}\notherwise: {{team: sales}}",
    "pause": f"mode: pause\n{REPS}\notherwise: {{team: sales}}",
    "all else is ignored": f"""{REPS}
rules: [{{name: french, when: [{{property: country, in: [France]}}], team: sales, skills: [fr]}}]
otherwise: {{ignore: not a lead}}
""",
    "everything is ignored": f"{REPS}\notherwise: {{ignore: not a lead}}",
    "a fixed owner": f"""{REPS}
rules: [{{name: abroad, when: [{{property: country, not_in: [France]}}], owner: partner@reseller.example}}]
otherwise: {{team: sales}}
""",
    "only a fixed owner": "otherwise: {owner: partner@reseller.example}",
    "somebody else if nobody": f"""{REPS}
  others: {{members: [cat@example.com]}}
rules:
  - name: french
    when: [{{property: country, equals: France}}]
    team: sales
    skills: [fr]
    priority: {{urgent: [{{property: score, at_least: 80}}]}}
    if_nobody: {{urgent: {{team: others, after: 10m}}}}
otherwise: {{team: sales}}
""",
    "groups, holidays, skills and priorities from properties": """
groups:
  paris:
    reps: [ann@example.com, bob@example.com]
    zone: Europe/Paris
    hours: {mon-fri: 09:00-18:00}
    holidays: FR-IDF
    skills: [fr, large]
  tokyo:
    reps: [dai@example.com]
    zone: Asia/Tokyo
    hours: {mon-fri: 09:00-18:00}
    holidays: JP
    skills: [ja, large]
teams: {équipe: {members: [paris, tokyo]}}
rules:
  - name: anywhere
    when: [{property: country, known: true}]
    team: équipe
    skills_from:
      - {property: country, lists: {fr: [France, Belgium], ja: [Japan]}}
      - {property: employees, at_least: {large: 1000}}
    priority: {urgent: [{property: score, at_least: 80}], low: [{property: score, at_most: 10}]}
otherwise: {team: équipe}
""",
    "on the other side of the world": """
groups:
  west:
    reps: [dai@example.com, ema@example.com]
    zone: America/Los_Angeles
    hours: {mon-fri: [09:00-12:00, 13:00-17:00]}
teams: {west: {members: [west], capacity: 30}}
otherwise: {team: west}
""",
    "worth": f"""
leads: {{worth: {{property: amount, bands: [10, 100.5], priorities: [low, normal, urgent]}}}}
{REPS}
rules: [{{name: huge, when: [{{property: amount, at_least: 1000}}], team: sales}}]
otherwise: {{team: sales}}
""",
    "leads that become some later": f"""
leads:
  when: {{property: lifecyclestage, reaches: [marketingqualifiedlead]}}
  closed: [{{property: lifecyclestage, reaches: [customer]}}]
{REPS}
rules: [{{name: large, when: [{{property: amount, at_least: 1000}}], team: sales}}]
otherwise: {{team: sales}}
""",
    "leads that wait for enrichment": f"""
leads: {{settle: {{known: [industry], at_most: 2m}}}}
{REPS}
rules: [{{name: software, when: [{{property: industry, equals: SOFTWARE}}], team: sales}}]
otherwise: {{team: sales}}
""",
    "a small flood": f"""
flood: {{leads: 4, minutes: 10}}
{REPS}
rules: [{{name: imported, when: [{{source: IMPORT}}], team: sales}}]
otherwise: {{team: sales}}
""",
    "every operator": f"""
lists: {{named: [acme.example, lead@solo.example], freemail: built in}}
{REPS}
rules:
  - {{name: free, when: [{{property: email, in_list: freemail}}], ignore: free mail}}
  - {{name: named, when: [{{property: email, in_list: named}}, {{property: country, not_equals: France}}], team: sales}}
  - {{name: schools, when: [{{property: email, ends_with: .edu}}], ignore: a school}}
  - {{name: phone, when: [{{property: phone, starts_with: "+33"}}, {{property: phone, ends_with: "7"}}], team: sales}}
  - {{name: ends, when: [{{property: ends, before: 2027-03-01}}, {{property: ends, after: 2026-12-01}}], team: sales}}
  - {{name: renewal, when: [{{property: renewal, within_days: 30}}], team: sales}}
  - name: small
    when:
      - not: {{any: [{{property: jobtitle, known: true}}, {{property: country, in: [Spain, Italy]}}]}}
      - {{property: employees, between: [5, 9]}}
    team: sales
  - name: asks
    when: [{{property: message, contains_any: [price, quote]}}, {{property: vip, equals: true}}]
    team: sales
    priority: high
  - {{name: api, when: [{{source: [API]}}, {{property: ip_country_code, equals: fr}}], team: sales}}
  - name: seats
    when:
      - all:
          - {{property: jobtitle, unknown: true}}
          - any: [{{property: seats, at_most: 3}}, {{property: seats, equals: 1000}}]
    team: sales
  - {{name: fresh, when: [{{property: createdate, within_days: 3}}, {{property: city, equals: Rome}}], team: sales}}
  - {{name: status, when: [{{property: hs_lead_status, in: [OUR_OWN]}}], team: sales}}
otherwise: {{team: sales}}
""",
    "a rule that nothing meets": f"""{REPS}
rules: [{{name: never, when: [{{property: city, equals: Rome}}, {{property: city, equals: Paris}}], team: sales}}]
otherwise: {{team: sales}}
""",
    "five hundred reps": json.dumps(
        {
            "teams": {"sales": {"members": [f"rep{number}@example.com" for number in range(500)]}},
            "otherwise": {"team": "sales"},
        }
    ),
}
"""What it is → the policy."""


def read(shape: str) -> Policy:
    """The policy of this shape."""
    return file.check(SHAPES[shape]).policy


def generated(seed: int) -> Policy:
    """A policy of any size, with rules that may shadow each other."""
    random = Random(seed)
    reps = [f"rep{number}@example.com" for number in range(random.randint(1, 6))]
    teams = {
        f"team {number}": {"members": [reps[0], *random.sample(reps[1:], random.randint(0, len(reps) - 1))]}
        for number in range(random.randint(1, 3))
    }
    policy: dict[str, Any] = {
        "leads": {"keep_owner": random.random() < 0.5},
        "reps": {rep: _rep(random) for rep in reps} | {reps[0]: {"skills": ["fr", "de"]}},  # who can take anything
        "teams": teams,
        "rules": [
            {"name": f"rule {number}", "when": _conditions(random, 2), **_goal(random, [*teams])}
            for number in range(random.randint(0, 6))
        ],
        "otherwise": _goal(random, [*teams]),
    }
    return file.check(json.dumps(policy)).policy


def _rep(random: Random) -> dict[str, Any]:
    rep: dict[str, Any] = {"weight": random.randint(1, 3), "zone": random.choice(["Europe/Paris", "Asia/Tokyo"])}
    if random.random() < 0.5:
        rep["hours"] = {"mon-fri": f"0{random.randint(6, 9)}:00-1{random.randint(2, 9)}:00"}
    if random.random() < 0.2:
        rep["absences"] = [{"from": "2027-01-10", "to": "2027-01-12"}]
    if random.random() < 0.3:
        rep["capacity"] = random.randint(0, 20)
    rep["skills"] = random.sample(["fr", "de"], random.randint(0, 2))
    return rep


def _goal(random: Random, teams: list[str]) -> dict[str, Any]:
    if random.random() < 0.2:
        return {"ignore": "not a lead"}
    goal: dict[str, Any] = {"team": random.choice(teams)}
    if random.random() < 0.3:
        goal["skills"] = [random.choice(["fr", "de"])]
    if random.random() < 0.3:
        goal["priority"] = {"urgent": _conditions(random, 1)}
    return goal


def _conditions(random: Random, depth: int) -> list[dict[str, Any]]:
    return [_condition(random, depth) for _ in range(random.randint(1, 2))]


def _condition(random: Random, depth: int) -> dict[str, Any]:
    if depth and random.random() < 0.3:
        inner = _conditions(random, depth - 1)
        return random.choice([{"all": inner}, {"any": inner}, {"not": inner[0]}])
    number, country = random.randint(1, 50), random.choice(["France", "Italy", "Japan"])
    return random.choice(
        [
            {"property": "country", "equals": country},
            {"property": "country", "not_in": [country, "Spain"]},
            {"property": "seats", "at_least": number},
            {"property": "seats", "between": [number, number + 10]},
            {"property": "jobtitle", "contains": random.choice(["head", "student"])},
            {"property": "email", "ends_with": random.choice([".edu", "@acme.example"])},
            {"property": "phone", "known": True},
            {"property": "phone", "unknown": True},
            {"source": [random.choice(["FORM", "API", "IMPORT"])]},
        ]
    )
