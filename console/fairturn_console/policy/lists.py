"""Lists of a policy: values that stand in a file beside it, in the policy itself, or here."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Final

from fairturn.rules.conditions import fold
from fairturn_console.policy.problems import listed
from fairturn_console.policy.written import ListFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fairturn_console.policy.written import OneList

MAX_ENTRIES: Final = 5_000
MAX_BYTES: Final = 1024 * 1024
BUILT_IN: Final = {
    "freemail": [
        "126.com",
        "163.com",
        "aim.com",
        "alice.it",
        "aliceadsl.fr",
        "aol.com",
        "arcor.de",
        "bbox.fr",
        "bk.ru",
        "bluewin.ch",
        "btinternet.com",
        "club-internet.fr",
        "comcast.net",
        "cox.net",
        "daum.net",
        "email.com",
        "email.cz",
        "email.it",
        "fastmail.com",
        "fastmail.fm",
        "free.fr",
        "freenet.de",
        "gmail.com",
        "gmx.at",
        "gmx.ch",
        "gmx.com",
        "gmx.de",
        "gmx.fr",
        "gmx.net",
        "googlemail.com",
        "hanmail.net",
        "hey.com",
        "hotmail.be",
        "hotmail.ca",
        "hotmail.ch",
        "hotmail.co.uk",
        "hotmail.com",
        "hotmail.de",
        "hotmail.es",
        "hotmail.fr",
        "hotmail.it",
        "icloud.com",
        "inbox.com",
        "inbox.lv",
        "inbox.ru",
        "interia.pl",
        "laposte.net",
        "libero.it",
        "list.ru",
        "live.be",
        "live.ca",
        "live.co.uk",
        "live.com",
        "live.de",
        "live.fr",
        "live.it",
        "live.nl",
        "mac.com",
        "mail.com",
        "mail.de",
        "mail.ru",
        "me.com",
        "msn.com",
        "naver.com",
        "neuf.fr",
        "o2.pl",
        "onet.pl",
        "online.de",
        "orange.fr",
        "outlook.be",
        "outlook.com",
        "outlook.de",
        "outlook.es",
        "outlook.fr",
        "outlook.it",
        "pm.me",
        "posteo.de",
        "proton.me",
        "protonmail.com",
        "qq.com",
        "rediffmail.com",
        "rocketmail.com",
        "sapo.pt",
        "sbcglobal.net",
        "seznam.cz",
        "sfr.fr",
        "sina.com",
        "sky.com",
        "skynet.be",
        "t-online.de",
        "talktalk.net",
        "telenet.be",
        "terra.com.br",
        "tiscali.it",
        "tutanota.com",
        "uol.com.br",
        "verizon.net",
        "virgilio.it",
        "virginmedia.com",
        "wanadoo.fr",
        "web.de",
        "wp.pl",
        "ya.ru",
        "yahoo.ca",
        "yahoo.co.in",
        "yahoo.co.jp",
        "yahoo.co.uk",
        "yahoo.com",
        "yahoo.com.br",
        "yahoo.de",
        "yahoo.es",
        "yahoo.fr",
        "yahoo.it",
        "yandex.com",
        "yandex.ru",
        "ymail.com",
        "zoho.com",
        "zohomail.com",
    ],
}
"""Domains of large free providers of mailboxes."""


class ListUnreadable(Exception):
    """A list can't be read; the message says why."""


def entries(name: str, written: OneList, folder: Path) -> frozenset[str]:
    """Give what is in a list, folded; files are looked for in `folder`. Raises ListUnreadable."""
    if isinstance(written, ListFile):
        values: Iterable[str] = _of_file(written, folder)
    elif isinstance(written, tuple):
        values = written
    elif name in BUILT_IN:
        values = BUILT_IN[name]
    else:
        raise ListUnreadable(f"is not built in; built in are: {listed(BUILT_IN)}")
    found = frozenset(filter(None, (fold(value).removeprefix("@") for value in values)))
    if not found:
        raise ListUnreadable("has nothing in it")
    if len(found) > MAX_ENTRIES:
        raise ListUnreadable(f"has {len(found):,} entries; at most {MAX_ENTRIES:,}")
    return found


def _of_file(written: ListFile, folder: Path) -> list[str]:
    path = folder / written.file
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ListUnreadable(f"{written.file} is larger than 1 MB")
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            rows = csv.DictReader(file, delimiter=";" if ";" in head and "," not in head else ",", strict=True)
            columns = rows.fieldnames or []
            if written.column not in columns:
                raise ListUnreadable(
                    f"{written.file} has no column {written.column!r}; it has: {listed(columns) or 'none'}"
                )
            return [row[written.column] or "" for row in rows]
    except FileNotFoundError as error:
        raise ListUnreadable(f"there is no file {written.file} beside the policy") from error
    except UnicodeDecodeError as error:
        raise ListUnreadable(f"{written.file} is not UTF-8; save it as CSV in that encoding") from error
    except OSError as error:
        raise ListUnreadable(f"{written.file} can't be read: {error.strerror}") from error
    except csv.Error as error:
        raise ListUnreadable(f"{written.file} is no CSV: {error}") from error
