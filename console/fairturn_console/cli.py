"""`fairturn`: the operator's commands."""

from __future__ import annotations

import json
import platform
import re
import secrets
import sys
import time
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from fairturn.errors import FairturnError, HubSpotDenied, HubSpotUnavailable, OutOfTime, PolicyInvalid
from fairturn.telemetry import logger
from fairturn_sandbox import events

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fairturn.edges.hubspot.client import HubSpot
    from fairturn.rules.policy import Policy
    from fairturn_console.dead_letters import DeadLetter, Listing
    from fairturn_console.person import People
    from fairturn_console.policy.file import Checked
    from fairturn_console.recount import Count


class _ListsByDefault(TyperGroup):
    """Commands of which `list` needs no name. What stands before another command's name is never taken for its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = args and (not args[0].startswith("-") or args[0] == "--help")
        return super().parse_args(ctx, args if named else ["list", *args])


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
policy_commands = typer.Typer(no_args_is_help=True, help="The policy: who gets which leads.")
app.add_typer(policy_commands, name="policy")
rep_commands = typer.Typer(no_args_is_help=True, help="The reps: what they have.")
app.add_typer(rep_commands, name="reps")
dead_letter_commands = typer.Typer(cls=_ListsByDefault, help="What was given up, and why; and sending it back.")
app.add_typer(dead_letter_commands, name="dead-letters")
audit_commands = typer.Typer(no_args_is_help=True, help="Whether all that is stored agrees with itself.")
app.add_typer(audit_commands, name="audit")
person_commands = typer.Typer(no_args_is_help=True, help="What is stored of a contact or a rep: given out, or erased.")
app.add_typer(person_commands, name="person")

POLICY: Final = Path("policy.yaml")
STACK: Final = "fairturn"
LOG: Final = Path(".sandbox/demo.log")
VARIABLES: Final = Path(".sandbox/env.json")
WIDTH: Final = 110
FEWEST_LEADS: Final = 20
MOST_LEADS: Final = 2_000
SHOWN_ID: Final = 8
"""Characters of a dead letter's id in a table: enough to name it."""

SHOWN_IDS: Final = 5
SPAN: Final = re.compile(r"([0-9]{1,6})([mhd])")
SPANS: Final = {"m": 60, "h": 3_600, "d": 86_400}
MOST_SPAN: Final = 400 * 86_400
AUDIT_WITHIN: Final = 4 * 3600.0
"""Seconds after which an audit of a table is given up."""

MAX_MESSAGE: Final = 200
UNLISTED: Final = "not applied; HubSpot lists no sensitive properties: if it is only for these, apply with --no-lookup"
SCOPE: Final = "The app needs the scope crm.schemas.contacts.read for that."

PolicyFile = Annotated[Path, typer.Argument(help="The policy file.", exists=True, dir_okay=False)]
PolicyOption = Annotated[Path, typer.Option("--policy", help="The policy to run under.", exists=True, dir_okay=False)]
StackName = Annotated[str, typer.Option("--stack", help="The CloudFormation stack that Fairturn runs in.")]
HubSpotUrl = Annotated[str, typer.Option("--hubspot", help="Where HubSpot answers.", envvar="HUBSPOT_API_URL")]


def _one_line(message: str | None) -> str | None:
    if message is not None and not (message.strip() and message.isprintable() and len(message) <= MAX_MESSAGE):
        raise typer.BadParameter(f"must be one line of at most {MAX_MESSAGE} characters that can be printed")
    return message


@app.callback()
def fairturn() -> None:
    """Gives every new HubSpot lead to the right sales rep, fairly, and can prove it."""


@app.command()
def demo(
    seed: Annotated[int | None, typer.Option(help="Repeats the run that printed this seed.")] = None,
    leads: Annotated[int, typer.Option(help="How many come in a day.", min=FEWEST_LEADS, max=MOST_LEADS)] = 300,
    policy: PolicyOption = POLICY,
) -> None:
    """Run a day of leads on this machine: the real handlers, a HubSpot simulator, no account."""
    from fairturn_sandbox.demo import run  # the sandbox is heavy; the other commands do without

    chosen = secrets.randbelow(10_000) if seed is None else seed
    LOG.parent.mkdir(exist_ok=True)
    if not run(chosen, leads, _read(policy), LOG, _console()):
        raise typer.Exit(1)


@app.command()
def sandbox(
    host: Annotated[
        str,
        typer.Option(
            help="Where to listen. Containers do not reach 127.0.0.1: for them, give the address of the Docker bridge "
            "(on Linux mostly 172.17.0.1), or 0.0.0.0 for every network."
        ),
    ] = "127.0.0.1",
    policy: PolicyOption = POLICY,
) -> None:
    """Keep AWS and a HubSpot portal open on this machine, for functions that `sam local invoke` runs."""
    from fairturn_sandbox.serve import CONTACT, opened, watch

    VARIABLES.parent.mkdir(exist_ok=True)
    try:
        with opened(_read(policy), host, VARIABLES) as portal:
            typer.echo(f"Open, with contact {CONTACT}, which nobody owns. To try, after `make smoke`:")
            typer.echo(f"  .venv/bin/fairturn event contact-created | {_invoke('IntakeFunction')} -e -")
            typer.echo(f"  {_invoke('AssignFunction')} -e events/lead-queued.json")
            typer.echo(f"  {_invoke('TrackFunction')} -e events/change-queued.json")
            typer.echo(f"  {_invoke('SweepFunction')} -e events/sweep.json")
            typer.echo("Ctrl-C closes it.")
            watch(portal, typer.echo)
    except FairturnError as error:
        _fail(*_problems(error))
    except KeyboardInterrupt:
        typer.echo("Closed.")


@app.command()
def event(
    name: Annotated[str, typer.Argument(help="One of the stored events; without it, they are listed.")] = "",
    secret: Annotated[
        str, typer.Option(help="The client secret to sign with.", envvar="WEBHOOK_SECRET")
    ] = events.SECRET,
    url: Annotated[str, typer.Option(help="The target URL to sign for.", envvar="WEBHOOK_URL")] = events.URL,
) -> None:
    """Print a stored event as Lambda gets it; a webhook's is signed freshly, for five minutes."""
    if not name:
        typer.echo("\n".join(events.names()))
        return
    try:
        stored = events.load(name)
    except LookupError as error:
        _fail(str(error))
    if "requestContext" in stored:
        stored = events.sign(stored, secret, url, int(time.time() * 1000))
    typer.echo(json.dumps(stored, indent=2))


@policy_commands.command()
def check(
    path: PolicyFile = POLICY,
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if there are warnings, too.")] = False,
) -> None:
    """Check a policy file without touching anything, and say what a claim costs in each rota.

    Warnings tell what is valid and hardly meant. Like problems, they are told with their line.
    """
    from fairturn_console.policy import cost

    checked = _checked(path)
    policy = checked.policy
    warnings = _warn(path, checked)
    rules = len(policy.rules)
    found = f"No problems, warnings: {warnings}." if warnings else "No problems."
    typer.echo(f"{path}: {len(policy.reps)} reps, {len(policy.rotas)} rotas, {rules} rules and a catch-all. {found}")
    for name, rota in policy.rotas.items():
        size = f"{len(rota.members)} x {len(policy.lanes(name))}"
        units = cost.write_units(policy, name)
        typer.echo(f"  {name}: reps x lanes = {size}, about {units} write units for a claim of one lead")
    if strict and warnings:
        raise typer.Exit(1)


@policy_commands.command()
def apply(
    path: PolicyFile = POLICY,
    stack: StackName = STACK,
    hubspot: HubSpotUrl = "https://api.hubapi.com",
    message: Annotated[
        str | None, typer.Option(help="What changes and why, for the history.", callback=_one_line)
    ] = None,
    *,
    no_lookup: Annotated[
        bool,
        typer.Option("--no-lookup", help="Look up no properties: for sensitive ones, which HubSpot does not list."),
    ] = False,
) -> None:
    """Check a policy, look its reps, properties and options up in HubSpot, and put it into force."""
    from fairturn_console.deployment import Deployment
    from fairturn_console.policy import applying

    checked = _checked(path)
    _warn(path, checked)
    try:
        deployment = Deployment(stack)
        crm = deployment.crm(hubspot)
        if not no_lookup:
            _look_up(path, checked.policy, crm)
        by, at = _caller(path), int(time.time() * 1000)
        number = applying.apply(checked.policy, deployment.store(), crm, at, by=by, message=message)
        why = applying.wants_recount(deployment.store(), number)
    except PolicyInvalid as error:
        _fail(*(f"{path}: {checked.located(problem)}" for problem in error.problems))
    except FairturnError as error:
        _fail(str(error))
    typer.echo(f"Version {number} is in force; every function sees it within 30 seconds.")
    if why is not None:
        typer.echo(f"Run `fairturn reps recount{_stack_option(stack)}`: {why}.")


@policy_commands.command()
def history(
    last: Annotated[int, typer.Option("--last", help="How many versions.", min=1, max=100)] = 20,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    stack: StackName = STACK,
) -> None:
    """List the versions of the policy, the newest first: when each was applied, by whom, and what they said."""
    from fairturn_console.deployment import Deployment

    try:
        versions = Deployment(stack).store().versions(last)
    except FairturnError as error:
        _fail(str(error))
    table = Table(box=None, pad_edge=False)
    for name in ("version", "applied (UTC)", "mode", "by", "message"):
        table.add_column(name, overflow="fold")
    for version in versions:
        at = datetime.fromtimestamp(version.at / 1000, UTC)
        if as_json:
            row = {"version": version.number, "appliedAt": at.isoformat(timespec="milliseconds")}
            typer.echo(json.dumps(row | {"mode": version.mode, "by": version.by, "message": version.message}))
        cells = (str(version.number), f"{at:%Y-%m-%d %H:%M}", version.mode, version.by or "?", version.message or "")
        table.add_row(*map(Text, cells))
    if versions and not as_json:
        _console().print(table)
    elif not versions:
        typer.echo("No policy was applied yet.", err=as_json)


def _span(text: str) -> timedelta:
    found = SPAN.fullmatch(text)
    if found is None or not 0 < (span := int(found[1]) * SPANS[found[2]]) <= MOST_SPAN:
        raise typer.BadParameter("must be minutes, hours or days, such as 90m, 24h or 7d; at most 400d")
    return timedelta(seconds=span)


@app.command()
def reconcile(
    since: Annotated[
        timedelta, typer.Option(help="How far back, such as 90m, 24h or 7d.", parser=_span, metavar="SPAN")
    ],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what is missing, and have nothing done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    stack: StackName = STACK,
    hubspot: HubSpotUrl = "https://api.hubapi.com",
) -> None:
    """Look at all contacts that have changed in HubSpot, and have done what no webhook told of.

    Sweep does the same every 15 minutes with what has changed lately. Contacts that were created within that time, have
    no owner and are leads by the policy are assigned. At most 200 contacts a second are looked at.
    """
    from fairturn_console.deployment import Deployment
    from fairturn_console.recount import look_all

    begun = datetime.now(UTC)
    try:
        with _logged_apart():
            reconciliation = Deployment(stack).reconciliation(hubspot)
            found = look_all(reconciliation, begun, since, dry_run=dry_run, say=_progress)
    except FairturnError as error:
        _fail(str(error), "What was found before that has been sent; the command may be repeated.")
    if as_json:
        strays = [{"id": message.id, "cause": cause} for message, cause in found.messages.items()]
        typer.echo(json.dumps({"contacts": found.contacts, "strays": strays, "sent": not dry_run}))
        return
    for cause in found.causes:
        ids = [message.id for message, why in found.messages.items() if why is cause]
        typer.echo(f"  {cause}: {len(ids)} ({', '.join(ids[:SHOWN_IDS])}{', ...' if len(ids) > SHOWN_IDS else ''})")
    told = f"{len(found.messages)} strays among {found.contacts} contacts that changed since"
    sent = " They are sent to track, and done within minutes." if found.messages and not dry_run else ""
    typer.echo(f"{told} {begun - since:%Y-%m-%d %H:%M} UTC.{sent}")


@rep_commands.command()
def recount(
    emails: Annotated[list[str] | None, typer.Argument(help="Reps' e-mails; without any, all of the policy's.")] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what differs, and have nothing done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    stack: StackName = STACK,
    hubspot: HubSpotUrl = "https://api.hubapi.com",
) -> None:
    """Count anew how many open leads each rep has: after the installation, after a restore, or where a load is doubted.

    Loads that are not what the records say are set right; contacts of which record and HubSpot differ are sent to
    track, and so are those from before the installation. Leads may flow meanwhile.
    """
    from fairturn_console.deployment import Deployment

    table = Table(box=None, pad_edge=False)
    for name in ("rep", "load", "in HubSpot", "was off by", "contacts that differ"):
        table.add_column(name, justify="left" if name == "rep" else "right")
    sent = 0
    try:
        with _logged_apart():
            counting = Deployment(stack).recount(hubspot)
            terms = counting.store.terms()
            names = {rep: terms.owners[rep].email if rep in terms.owners else rep for rep in terms.policy.reps}
            reps = _named_reps(emails, names)
            for count in counting.run(reps, terms.policy, _progress, dry_run=dry_run):
                sent += len(count.strays)
                if as_json:
                    typer.echo(json.dumps(_counted(count, names)))
                in_hubspot = "?" if count.open is None else str(count.open)
                row = (
                    str(count.held),
                    in_hubspot,
                    f"{count.drift:+d}" if count.drift else "",
                    str(len(count.strays) or ""),
                )
                table.add_row(*map(Text, (names[count.rep], *row)))
    except FairturnError as error:
        _fail(str(error), "What was found before that is done; the command may be repeated.")
    if as_json:
        return
    _console().print(table)
    if dry_run:
        typer.echo("Nothing was changed.")
    elif sent:
        typer.echo(f"{sent} contacts are sent to track; once more in a few minutes, the command should find none.")
    else:
        typer.echo("All is level.")


def _named_reps(emails: list[str] | None, names: Mapping[str, str]) -> list[str]:
    """The owner ids of reps by e-mail; all of them if none is named."""
    by_email = {email.lower(): rep for rep, email in names.items()}
    unknown = [email for email in emails or () if email.lower() not in by_email]
    if unknown:
        _fail(*(f"{email} is no rep of the policy; those are: {', '.join(sorted(by_email))}" for email in unknown))
    return [by_email[email.lower()] for email in emails] if emails else sorted(names, key=names.__getitem__)


def _counted(count: Count, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "rep": names[count.rep],
        "owner": count.rep,
        "load": count.held,
        "inHubSpot": count.open,
        "wasOffBy": count.drift,
        "differ": sorted(count.strays),
    }


@app.command()
def waiting(
    most: Annotated[int, typer.Option("--most", help="How many leads of each lane are named.", min=1, max=100)] = 5,
    stack: StackName = STACK,
) -> None:
    """List the leads that wait, lane by lane, and those that somebody left without an owner."""
    from fairturn_console import waiting as lanes
    from fairturn_console.deployment import Deployment

    table = Table(box=None, pad_edge=False)
    for name in ("lane", "leads", "the first of them", "since (UTC)", "why"):
        table.add_column(name, overflow="fold")
    try:
        for lane in lanes.waiting(Deployment(stack).store(), most):
            for number, record in enumerate(lane.first):
                since = datetime.fromtimestamp(record.changed_at / 1000, UTC)
                row = (f"{record.type} {record.id}", f"{since:%Y-%m-%d %H:%M}", record.reason or "")
                head = ("", "") if number else (lane.name, str(lane.leads))
                table.add_row(*map(Text, (*head, *row)))
    except FairturnError as error:
        _fail(str(error))
    if table.row_count:
        _console().print(table)
    else:
        typer.echo("Nothing waits.")


@audit_commands.command("table")
def audit_table(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    stack: StackName = "fairturn",
) -> None:
    """Hold ledgers, journals, loads and records against each other, from the oldest journals on, while leads flow.

    It reads the whole table, several times. Fails if something is not as it must be.
    """
    from fairturn.deadline import Deadline
    from fairturn.steps import audit
    from fairturn_console.deployment import Deployment

    try:
        report = audit.audit_table(Deployment(stack).store(), int(time.time() * 1000), Deadline.after(AUDIT_WITHIN))
    except FairturnError as error:
        _fail(str(error))
    for finding in report.findings:
        if as_json:
            row = {"what": finding.what, "where": finding.where, "says": finding.says, "do": finding.do}
            typer.echo(json.dumps(row))
        else:
            typer.echo(f"{finding}.\n  {finding.do}")
    for note in report.notes:
        typer.echo(note, err=as_json)
    if report.undecided:
        reps = ", ".join(report.undecided)
        typer.echo(
            f"Whether these reps' loads are right is not known, as their leads kept moving: {reps}.", err=as_json
        )
    looked = f"{report.rotas} rotas, {report.versions} versions of their ledgers, {report.records} records"
    typer.echo(f"Looked at {looked}. Found: {len(report.findings)}.", err=as_json)
    if report.findings:
        raise typer.Exit(1)


Person = Annotated[str, typer.Argument(help="A contact's id, or a rep's e-mail address.")]
IsRep = Annotated[bool, typer.Option("--rep", help="The id is a rep's owner id, not a contact's.")]


@person_commands.command("export")
def export_person(person: Person, *, is_rep: IsRep = False, stack: StackName = "fairturn") -> None:
    """Print all that is stored of a contact or a rep, as one JSON object for each record of HubSpot's that they are.

    The whole table is read. Exits with 1 if there is too much to look at all of it.
    """
    from fairturn_console.deployment import Deployment

    try:
        with _logged_apart():
            people = Deployment(stack).people()
            found = [
                people.rep(id_, email) if email is not None or is_rep else people.contact(id_)
                for id_, email in _persons(people, person)
            ]
    except FairturnError as error:
        _fail(str(error))
    for each in found:
        typer.echo(json.dumps(each, indent=2))
    if not all(each["complete"] for each in found):
        _fail("this is not all: there is too much to look at, or something that this version cannot read")


@person_commands.command("erase")
def erase_person(
    person: Person,
    *,
    is_rep: IsRep = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    stack: StackName = "fairturn",
) -> None:
    """Erase what is stored of a contact or a rep, as far as the ledgers allow, and say what stays and why.

    In HubSpot nothing is erased. A contact that is erased here is never looked at again, whatever is told of it for 120
    days: erase it in HubSpot first. A rep must not be in the policy any more.
    """
    from fairturn_console.deployment import Deployment

    try:
        with _logged_apart():
            people = Deployment(stack).people()
            chosen = _persons(people, person)
            for id_, email in chosen:
                a_rep = email is not None or is_rep
                who = f"the rep {person} (owner {id_})" if a_rep else f"contact {id_}"
                if not yes:
                    typer.confirm(f"Erase {who} for good?", abort=True, err=True)
                erased = people.erase_rep(id_, email) if a_rep else people.erase_contact(id_)
                if not erased.gone:
                    typer.echo(f"Nothing that can be erased is stored of {who}.")
                for line in erased.gone:
                    typer.echo(f"erased: {line}")
                for line in erased.stays:
                    typer.echo(f"stays: {line}")
    except FairturnError as error:
        _fail(str(error))
    if chosen:
        typer.echo("Backups of the table keep what was erased for up to 35 days; logs keep ids for LogRetentionDays.")


def _persons(people: People, person: str) -> list[tuple[str, str | None]]:
    """Contact or owner ids, each with the e-mail address if that was given. Raises PersonUnknown."""
    if re.fullmatch(r"[0-9]{1,19}", person):
        return [(person, None)]
    if "@" not in person:
        raise typer.BadParameter("must be a contact's id, or a rep's e-mail address")
    return [(id_, person) for id_ in sorted(people.owner_ids(person))]


@dead_letter_commands.command("list")
def list_dead_letters(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line, with the bodies.")] = False,
    stack: StackName = STACK,
) -> None:
    """List the dead letters of both queues, oldest first, with their reasons. This is what is done by default.

    Letters that SQS itself moved, because they were received too often, keep the time at which they were queued:
    they were dead-lettered some time after it. While letters are looked at, another command does not see them.
    """
    from fairturn_console.deployment import Deployment

    try:
        listing = Deployment(stack).dead_letters().list()
    except FairturnError as error:
        _fail(str(error))
    if as_json:
        for letter in listing.letters:
            typer.echo(json.dumps(_as_json(letter)))
    elif listing.letters:
        _console().print(_table(listing))
    queues = Counter(letter.queue for letter in listing.letters)
    counted = f"Dead letters: {len(listing.letters)}; leads {queues['leads']}, changes {queues['changes']}."
    typer.echo(counted if listing.complete else f"{counted} {_more()}", err=as_json)


@dead_letter_commands.command()
def redrive(
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of letters, or the first 6 characters or more.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Redrive every letter of both queues.")] = False,
    stack: StackName = STACK,
) -> None:
    """Send dead letters back to the queues that they came from.

    A letter is deleted only after its queue has taken it. If that is interrupted, some may be in both, which is
    harmless: a lead that has an owner by then is left alone.
    """
    from fairturn_console.deployment import Deployment

    if every and ids:
        _fail("give ids or --all, not both")
    if not every and not ids:
        _fail("give the ids of the letters to redrive, as `fairturn dead-letters` lists them, or --all")
    try:
        dead_letters = Deployment(stack).dead_letters()
        result = dead_letters.redrive(ids) if ids else dead_letters.redrive_all()
    except FairturnError as error:
        _fail(str(error))
    for letter in result.redriven:
        typer.echo(f"{_named(letter)}: redriven")
    for left in result.left:
        typer.echo(f"{_named(left.letter)}: left: {left.why}")
    counted = f"Redriven: {len(result.redriven)}; left: {len(result.left)}."
    typer.echo(f"{counted} {_more()}" if every and not result.complete else counted)
    if result.problems:
        _fail(*result.problems)


@dead_letter_commands.command("take-over")
def take_over(
    deleted: Annotated[str, typer.Argument(help="The stack that was deleted; its queues are still there.")],
    stack: StackName = STACK,
) -> None:
    """Move what is left in the queues of a stack that was deleted into those of this one.

    A message is deleted only after its new queue has taken it. A lead that has an owner by now is left alone.
    """
    from fairturn_console.deployment import Deployment

    if deleted == stack:
        _fail("these are the queues of the stack itself: give it with --stack, and the deleted one as the argument")
    moved, left, is_complete = 0, 0, True
    problems: list[str] = []
    try:
        for letters in Deployment(stack).left_over(deleted):
            result = letters.redrive_all()
            moved, left = moved + len(result.redriven), left + len(result.left)
            problems += result.problems
            is_complete &= result.complete
    except FairturnError as error:
        _fail(f"Moved: {moved}.", str(error))
    counted = f"Moved: {moved}; left, because they are no messages of ours: {left}."
    typer.echo(counted if is_complete else f"{counted} There may be more: run it once more.")
    if problems:
        _fail(*problems)


def _table(listing: Listing) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("id", no_wrap=True)
    for name in ("queue", "lead", "dead-lettered (UTC)", "stage", "reason"):
        table.add_column(name, overflow="fold")
    for letter in listing.letters:
        when = f"{'' if letter.stage else 'after '}{_time(letter):%Y-%m-%d %H:%M}"
        cells = (letter.id[:SHOWN_ID], letter.queue, letter.lead or "?", when, letter.stage or "", letter.reason)
        table.add_row(*map(Text, cells))
    return table


def _as_json(letter: DeadLetter) -> dict[str, str | None]:
    return {
        "id": letter.id,
        "queue": letter.queue,
        "lead": letter.lead,
        "sentAt": _time(letter).isoformat(timespec="milliseconds"),
        "stage": letter.stage,
        "reason": letter.reason,
        "body": letter.body,
    }


def _time(letter: DeadLetter) -> datetime:
    return datetime.fromtimestamp(letter.sent_at / 1000, UTC)


def _named(letter: DeadLetter) -> str:
    return f"{letter.id[:SHOWN_ID]} ({letter.lead or '?'})"


def _more() -> str:
    from fairturn_console.dead_letters import MOST_LETTERS

    return f"There may be more: at most {MOST_LETTERS:,} of each queue are looked at."


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)


def _invoke(function: str) -> str:
    processor = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"
    return f".venv-sam/bin/sam local invoke {function} --parameter-overrides Architecture={processor}"


def _read(path: Path) -> Policy:
    return _checked(path).policy


def _stack_option(stack: str) -> str:
    return "" if stack == STACK else f" --stack {stack}"


def _checked(path: Path) -> Checked:
    from fairturn_console.policy import file

    try:
        return file.check(path)
    except PolicyInvalid as error:
        _fail(*(f"{path}: {problem}" for problem in error.problems))


def _warn(path: Path, checked: Checked) -> int:
    """Print what is hardly meant in a policy. Returns how many warnings there are."""
    warnings = checked.warnings(datetime.now(UTC))
    for warning in warnings:
        typer.echo(f"{path}: warning: {warning}", err=True)
    return len(warnings)


def _look_up(path: Path, policy: Policy, crm: HubSpot) -> None:
    """Raises PolicyInvalid for properties and options that HubSpot doesn't have. Where it can't say, that is told."""
    from fairturn_console.policy import definitions

    try:
        unknown = definitions.unknown(policy, crm)
    except (HubSpotUnavailable, OutOfTime) as error:
        what = f"properties and options are not looked up: {error}"
        mend = f". {SCOPE}" if isinstance(error, HubSpotDenied) else ""
        typer.echo(f"{path}: warning: {what}{mend}", err=True)
    else:
        if unknown:
            typer.echo(f"{path}: {UNLISTED}", err=True)
            raise PolicyInvalid(unknown)


def _caller(path: Path) -> str | None:
    """The ARN of whoever applies a policy. Where AWS can't say, that is told."""
    from fairturn_console.deployment import CallerUnknown, caller

    try:
        return caller()
    except CallerUnknown as error:
        typer.echo(f"{path}: warning: the history will not tell who applied this: {error}", err=True)
        return None


def _problems(error: FairturnError) -> list[str]:
    return [str(problem) for problem in error.problems] if isinstance(error, PolicyInvalid) else [str(error)]


@contextmanager
def _logged_apart() -> Iterator[None]:
    """Let what is logged on the way go to stderr."""
    handler: Any = logger.registered_handler
    before = handler.setStream(sys.stderr)
    try:
        yield
    finally:
        handler.setStream(before)


def _progress(line: str) -> None:
    """What goes on, for whoever waits before a screen."""
    if sys.stderr.isatty():
        typer.echo(line, err=True)


def _fail(*lines: str) -> NoReturn:
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(1)
