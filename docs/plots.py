"""Draws docs/fairness.svg: what each rep is owed while reps leave, come back, join and change weight.

Beside the product's own ledger stand three simple ways of giving the same leads to the same reps. These are models of
methods, not of products. `make plots` runs this; it is never deployed.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fairturn.rules.ledger import ANY, TURN, Ledger, Member, Offer, align, allot
from fairturn.rules.verdict import Code, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

PICTURE: Final = Path(__file__).with_name("fairness.svg")

LEADS: Final = 300
AWAY: Final = range(60, 120)
"""The leads that come while Farid is away."""
JOINS: Final = 160
"""The lead with which Hugo joins."""
HEAVIER: Final = 220
"""The lead from which on Grace has weight 3."""
DAY: Final = 17
"""After so many leads the rotation with resets begins at the top of its list again."""

Dashes = str | tuple[int, tuple[float, ...]]
EMMA, FARID, GRACE, HUGO = "Emma", "Farid", "Grace", "Hugo"
REPS: Final[dict[str, tuple[str, Dashes]]] = {
    # Colours that colour-blind readers can tell apart, and a line of its own for each.
    EMMA: ("#0072B2", "solid"),
    FARID: ("#D55E00", (0, (6, 2))),
    GRACE: ("#009E73", (0, (5, 1.5, 1, 1.5))),
    HUGO: ("#AA4499", (0, (1.2, 1.2))),
}

Rota = dict[str, Member]
Owed = dict[str, list[float]]
"""For each rep what they are owed after each lead, in turns."""


def rotas() -> Iterator[Rota]:
    """The rota at each lead."""
    rota = {EMMA: Member(weight=2), FARID: Member(), GRACE: Member()}
    for lead in range(LEADS):
        rota[FARID] = replace(rota[FARID], verdict=Verdict(Code.AWAY) if lead in AWAY else Verdict())
        if lead == JOINS:
            rota[HUGO] = Member()
        if lead == HEAVIER:
            rota[GRACE] = replace(rota[GRACE], weight=3)
        yield dict(rota)


def by_ledger() -> Owed:
    """What the product's own ledger says."""
    ledger, owed = Ledger(), Owed({rep: [] for rep in REPS})
    for rota in rotas():
        ledger = allot(align(ledger, rota, [ANY]), [Offer(ANY)], rota, [ANY]).ledger
        for rep, line in owed.items():
            line.append(ledger.total(rep) / TURN)
    return owed


def by_choice(choose: Callable[[int, Rota], str]) -> Owed:
    """What is owed by the same measure, fair share less leads got, where another method chooses."""
    owed, balance = Owed({rep: [] for rep in REPS}), dict.fromkeys(REPS, 0.0)
    for lead, rota in enumerate(rotas()):
        able = {rep: member.weight for rep, member in rota.items() if member.verdict.on_duty}
        for rep, weight in able.items():
            balance[rep] += weight / sum(able.values())
        balance[choose(lead, rota)] -= 1
        for rep, line in owed.items():
            line.append(balance[rep])
    return owed


def by_rotation() -> Owed:
    """The n-th lead goes to the n-th place of a list where each rep stands as often as their weight says.

    Whoever comes after somebody who is away takes the lead in their stead.
    """
    return by_choice(_next_in_list)


def by_rotation_with_resets() -> Owed:
    """The same, but every day begins at the top of the list."""
    return by_choice(lambda lead, rota: _next_in_list(lead % DAY, rota))


def by_lot() -> Owed:
    """Each lead is drawn by lot, by weight."""
    dice = random.Random(1)

    def draw(_lead: int, rota: Rota) -> str:
        able = {rep: member.weight for rep, member in rota.items() if member.verdict.on_duty}
        return dice.choices(list(able), list(able.values()))[0]

    return by_choice(draw)


def _next_in_list(place: int, rota: Rota) -> str:
    places = [rep for rep, member in rota.items() for _ in range(member.weight)]
    start = place % len(places)
    return next(rep for rep in places[start:] + places[:start] if rota[rep].verdict.on_duty)


def draw(path: Path) -> None:
    """Write the picture as SVG: the same bytes at each run with the same version of matplotlib."""
    import matplotlib as mpl  # Only drawing needs it: the series can be tested without.
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "fairness", "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(12, 7.2), layout="constrained")
        halves = figure.add_gridspec(1, 2, width_ratios=(1.15, 1), wspace=0.03)
        _draw_ledger(figure.add_subfigure(halves[0]))
        _draw_others(figure.add_subfigure(halves[1]))
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _draw_ledger(figure: SubFigure) -> None:
    owed = by_ledger()
    worst = max(abs(turns) for line in owed.values() for turns in line)
    words = {
        EMMA: (4, "weight 2"),
        FARID: (AWAY.start + 20, "away"),
        GRACE: (HEAVIER + 3, "weight 1 → 3"),
        HUGO: (JOINS + 3, "joins"),
    }
    strips = figure.subplots(len(REPS), 1, sharex=True, sharey=True)
    for axes, (rep, (colour, _)) in zip(strips, REPS.items(), strict=True):
        _mark(axes)
        axes.axhline(0, color="#888888", linewidth=0.6)
        axes.plot(*_since_there(rep, owed), color=colour, linewidth=1.1)
        axes.set(xlim=(0, LEADS), ylim=(-1.25, 1.25), yticks=(-1, 0, 1))
        axes.set_title(rep, loc="left", color=colour, fontweight="bold", pad=2)
        at, what = words[rep]
        axes.annotate(what, (at, 1.2), va="top", color="#333333", fontsize=9)
    figure.suptitle(f"Fairturn: at most {worst:.1f} turns from the fair share", fontweight="bold")
    figure.supylabel("owed, in turns")
    strips[-1].set_xlabel("leads")


def _draw_others(figure: SubFigure) -> None:
    others = {
        "Plain rotation: the next in the list takes the lead of who is away": by_rotation(),
        f"Rotation with resets: every {DAY} leads it begins at the top again": by_rotation_with_resets(),
        "Weighted random": by_lot(),
    }
    panels = figure.subplots(len(others), 1, sharex=True, sharey=True)
    for axes, (name, owed) in zip(panels, others.items(), strict=True):
        _mark(axes)
        axes.axhspan(-1, 1, color="#BBBBBB", alpha=0.6, linewidth=0, label="one turn")
        for rep, (colour, dashes) in REPS.items():
            axes.plot(*_since_there(rep, owed), color=colour, linestyle=dashes, linewidth=1.5, label=rep)
        axes.set(xlim=(0, LEADS))
        axes.set_title(name, loc="left", fontsize=10)
    panels[0].legend(loc="upper left", ncols=5, fontsize=8.5, frameon=False, handlelength=2.6, columnspacing=1.2)
    figure.suptitle("The same leads, given in other ways", fontweight="bold")
    figure.supylabel("owed, in turns")
    panels[-1].set_xlabel("leads")


def _since_there(rep: str, owed: Owed) -> tuple[range, list[float]]:
    """The leads since the rep is in the rota, and what they are owed after each."""
    first = JOINS if rep == HUGO else 0
    return range(first + 1, LEADS + 1), owed[rep][first:]


def _mark(axes: Axes) -> None:
    """Where something happens."""
    axes.axvspan(AWAY.start, AWAY.stop, color="#F0E442", alpha=0.25, linewidth=0)
    for lead in (JOINS, HEAVIER):
        axes.axvline(lead, color="#888888", linewidth=0.8, linestyle=(0, (2, 2)))


if __name__ == "__main__":
    draw(PICTURE)
