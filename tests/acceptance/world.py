"""A world that changes and fails at random, and a record of what it truly answered.

The record is plain Python and knows nothing of the code under test: it is fed with the replies the
server gave and says what the tables must hold.
"""

import copy
import gzip
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from . import documents
from .documents import Document
from .server import Reply, Request, says

SERVICES = tuple(documents.PROVIDERS)
LISTS = {"calendar": "profiles", "conferencing": "conferencing_profiles"}
WEB_PAGE = b"<!doctype html><title>Down for maintenance</title>"


def faults(document: Document) -> dict[str, Reply]:
    """Every way to fail this world knows, for a request that deserved the document."""
    body = json.dumps(document).encode()

    def bad(body: bytes, **settings: Any) -> Reply:
        return Reply(body=body, outcome="bad_payload", **settings)

    return {
        "401": Reply(401, outcome="token_rejected"),
        "402": Reply(402, outcome="plan_required"),
        "403": Reply(403, b'{"error": "forbidden"}', outcome="forbidden"),
        "404": Reply(404, outcome="bad_payload"),
        "423": Reply(423, outcome="provider_locked"),
        "429": Reply(429, headers=(("retry-after", "0"),), outcome="rate_limited"),
        "500": Reply(500, body, outcome="server_error"),
        "502 web page": Reply(502, WEB_PAGE, (("content-type", "text/html"),), outcome="server_error"),
        "503 bad Retry-After": Reply(503, headers=(("retry-after", "soon"),), outcome="server_error"),
        "reset": Reply(cut="reset", outcome="network_error"),
        "cut short": Reply(body=body, cut="short", outcome="network_error"),
        "not HTTP": Reply(raw=b"\x16\x03\x01 no HTTP at all\r\n\r\n", outcome="network_error"),
        "redirect": Reply(302, headers=(("location", "/v1/elsewhere"),), outcome="bad_payload"),
        "no content": Reply(204, outcome="bad_payload"),
        "empty": bad(b""),
        "web page": bad(WEB_PAGE),
        "broken JSON": bad(body[:-5]),
        "two documents": bad(body + body),
        "UTF-16": bad(json.dumps(document).encode("utf-16")),
        "unasked gzip": bad(gzip.compress(body)),
        "a list": bad(b"[" + body + b"]"),
        "null": bad(b"null"),
        "deep": bad(b"[" * 100_000 + b"]" * 100_000),
    }


def wrong_shapes(document: Document) -> dict[str, Reply]:
    """Userinfo answers that are JSON and must not be believed."""

    def altered(change: Callable[[Document], Any]) -> Reply:
        other = copy.deepcopy(document)
        change(other)
        return Reply(body=json.dumps(other).encode(), outcome="bad_payload")

    def with_first_profile(**fields: Any) -> Reply:
        entry = documents.profile("pro_x") | fields
        return altered(lambda other: other["cronofy.data"].update(profiles=[entry]))

    without_connected = documents.profile("pro_x")
    del without_connected["profile_connected"]
    return {
        "sub is a number": altered(lambda other: other.update(sub=7)),
        "no sub": altered(lambda other: other.pop("sub")),
        "data is a list": altered(lambda other: other.update({"cronofy.data": []})),
        "profiles is an object": altered(lambda other: other["cronofy.data"].update(profiles={})),
        "profiles is text": altered(lambda other: other["cronofy.data"].update(profiles="none")),
        "a profile is null": altered(lambda other: other["cronofy.data"].update(profiles=[None])),
        "connected is text": with_first_profile(profile_connected="true"),
        "connected is 0": with_first_profile(profile_connected=0),
        "connected is null": with_first_profile(profile_connected=None),
        "no connected": altered(lambda other: other["cronofy.data"].update(profiles=[without_connected])),
        "profile_id is a number": with_first_profile(profile_id=12),
        "conferencing without connected": altered(
            lambda other: other["cronofy.data"].update(conferencing_profiles=[without_connected])
        ),
    }


@dataclass
class Account:
    """One account as it stands, and what it lists."""

    sub: str
    kind: str
    listed: dict[str, dict[str, Document]]
    hidden: set[str] = field(default_factory=set)
    email: str | None = None
    novelty: Any = None
    attic: dict[tuple[str, str], Document] = field(default_factory=dict)

    def document(self) -> Document:
        """What userinfo answers now."""
        if self.kind == "service_account":
            return documents.userinfo(self.sub, None, kind=self.kind)
        lists = [
            None if profile_type in self.hidden else list(self.listed[profile_type].values())
            for profile_type in LISTS
        ]
        document = documents.userinfo(self.sub, *lists, kind=self.kind, email=self.email)
        if self.novelty is not None:
            document["tomorrow"] = self.novelty
        return document


class World:
    """Accounts and their tokens; `turn` changes some accounts and draws every token's fate anew.

    Args:
        seed: of all that is drawn.
        accounts: how many.
        shared: whether some have several tokens, of which a sweep polls one. Which one that is depends on
            how often a run was begun again, so two histories can be compared only without.
    """

    def __init__(self, seed: int, accounts: int = 45, *, shared: bool = True) -> None:
        self._dice = Random(seed)
        self._numbers = iter(range(1_000_000))
        kinds = ["account"] * 10 + ["service_account", "application_calendar"]
        self.accounts = [self._new_account(f"acc_{n}", kinds[n % len(kinds)]) for n in range(accounts)]
        self.owners: dict[str, Account] = {}
        for number, owner in enumerate(self.accounts):
            for letter in "abc"[: 1 + shared * ((number % 5 == 0) + (number % 15 == 0))]:
                self.owners[f"key{number}{letter}"] = owner
        self._fates: dict[tuple[str, str], list[Reply]] = {}

    def turn(self) -> None:
        """Let time pass: accounts change, and so does what goes wrong."""
        for owner in self.accounts:
            for _ in range(self._dice.choice((0, 1, 2, 4))):
                self._change(owner)
            owner.hidden = {kind for kind in LISTS if self._dice.random() < 0.08}
        self._fates = {
            (key, endpoint): self._fate(endpoint, owner)
            for key, owner in self.owners.items()
            for endpoint in ("userinfo", "account")
        }

    def answer(self, request: Request) -> Reply:
        """The next reply of the fate drawn for this token; the last one for ever."""
        replies = self._fates[request.token, request.endpoint]
        return replies.pop(0) if len(replies) > 1 else replies[0]

    def answer_steadily(self, request: Request) -> Reply:
        """The last reply of the fate, however often it is asked for."""
        return self._fates[request.token, request.endpoint][-1]

    def _fate(self, endpoint: str, owner: Account) -> list[Reply]:
        # a copy: what was answered stays answered when the account changes
        document = copy.deepcopy(owner.document() if endpoint == "userinfo" else documents.account(owner.sub))
        good = says(document)
        luck = self._dice.random()
        if luck < 0.55:
            return [good]
        troubles = faults(document) | (wrong_shapes(document) if endpoint == "userinfo" else {})
        name = self._dice.choice(sorted(troubles))
        if luck < 0.7:  # one of two attempts goes wrong in a way that passes
            passing = self._dice.choice(("500", "reset", "cut short", "429", "502 web page"))
            return [troubles[passing], good]
        return [troubles[name]]

    def _new_account(self, sub: str, kind: str) -> Account:
        listed: dict[str, dict[str, Document]] = {profile_type: {} for profile_type in LISTS}
        account = Account(sub, kind, listed)
        for profile_type in ("calendar", "calendar", "conferencing"):
            self._add_profile(account, profile_type)
        return account

    def _add_profile(self, account: Account, profile_type: str) -> None:
        number = next(self._numbers)
        profile_id = f"pro_{number}"
        account.listed[profile_type][profile_id] = documents.profile(
            profile_id,
            connected=self._dice.random() < 0.7,
            service=self._dice.choice(SERVICES),
            name=f"Zoë {number}@example.com",
            calendars=[documents.calendar(f"cal_{number}")] if profile_type == "calendar" else None,
        )

    def _change(self, account: Account) -> None:
        profile_type = self._dice.choice(sorted(LISTS))
        if self._dice.random() < 0.45:
            event = self._dice.choice(
                (self._add_profile, self._empty, *[self._return] * 3, self._write_elsewhere, self._surprise)
            )
            event(account, profile_type)
        elif account.listed[profile_type]:
            profile_id = self._dice.choice(sorted(account.listed[profile_type]))
            change = self._dice.choice(
                (self._flip, self._flip, self._vanish, self._rename, self._sync, self._new_calendar)
            )
            change(account, profile_type, profile_id)

    def _empty(self, account: Account, profile_type: str) -> None:
        profiles = account.listed[profile_type]
        account.attic |= {(profile_type, each): document for each, document in profiles.items()}
        profiles.clear()

    def _return(self, account: Account, _: str) -> None:
        for (profile_type, profile_id), document in account.attic.items():
            account.listed[profile_type][profile_id] = document
        account.attic.clear()

    def _write_elsewhere(self, account: Account, _: str) -> None:
        account.email = f"new{next(self._numbers)}@example.com"

    def _surprise(self, account: Account, _: str) -> None:
        account.novelty = self._dice.choice((7, "text", {"a": [1]}, True, 0.5))

    def _vanish(self, account: Account, profile_type: str, profile_id: str) -> None:
        account.attic[profile_type, profile_id] = account.listed[profile_type].pop(profile_id)

    def _flip(self, account: Account, profile_type: str, profile_id: str) -> None:
        document = account.listed[profile_type][profile_id]
        flip = documents.disconnected if document["profile_connected"] else documents.connected
        account.listed[profile_type][profile_id] = flip(document)

    def _rename(self, account: Account, profile_type: str, profile_id: str) -> None:
        name = f"renamed{next(self._numbers)}@example.com"
        account.listed[profile_type][profile_id] |= {"profile_name": name}

    def _sync(self, account: Account, profile_type: str, profile_id: str) -> None:
        flag = account.listed[profile_type][profile_id].get("profile_initial_sync_required", False)
        account.listed[profile_type][profile_id] |= {"profile_initial_sync_required": not flag}

    def _new_calendar(self, account: Account, profile_type: str, profile_id: str) -> None:
        document = account.listed[profile_type][profile_id]
        if profile_type == "calendar":
            calendars = [
                documents.calendar(f"cal_{next(self._numbers)}"),
                *document["profile_calendars"][:1],
            ]
            account.listed[profile_type][profile_id] = document | {"profile_calendars": calendars}


# the last one is a link, of which another one is no change
ATTRIBUTES = (
    "provider_name",
    "provider_service",
    "profile_name",
    "profile_initial_sync_required",
    "profile_relink_url",
)


@dataclass(frozen=True)
class Change:
    """A row that `profile_changes` must hold; attributes only where the profile was listed."""

    run: int
    kind: str
    state: str
    previous_state: str | None
    attributes: tuple[Any, ...] | None


@dataclass
class Record:
    """What the server truly answered, account by account and token by token."""

    changes: dict[tuple[str, str, str], list[Change]] = field(default_factory=lambda: defaultdict(list))
    profiles: dict[tuple[str, str, str], tuple[str, str, tuple[Any, ...] | None, int]] = field(
        default_factory=dict
    )
    calendars: dict[tuple[str, str], tuple[str, str, str, bool]] = field(default_factory=dict)
    userinfo: dict[str, Document] = field(default_factory=dict)
    userinfo_runs: dict[str, int] = field(default_factory=dict)
    accounts: dict[str, Document] = field(default_factory=dict)
    polls: list[tuple[int, str, str, str, int]] = field(default_factory=list)
    _last: dict[tuple[str, str, str], tuple[str, tuple[Any, ...]]] = field(default_factory=dict)
    _well: dict[str, str | None] = field(default_factory=dict)

    def add_run(self, run: int, log: Iterable[tuple[Request, Reply]]) -> None:
        """Take in the replies of one load; of several attempts the last one counts."""
        final: dict[tuple[str, str], Reply] = {}
        attempts: dict[tuple[str, str], int] = defaultdict(int)
        for request, reply in log:
            final[request.token, request.endpoint] = reply
            attempts[request.token, request.endpoint] += 1
        asked = {token for token, _ in final}
        for (token, endpoint), reply in final.items():
            self.polls.append((run, token, endpoint, reply.outcome, attempts[token, endpoint]))
            if reply.says is None:
                continue
            if endpoint == "account":
                self.accounts[token] = reply.says["account"]
                continue
            self._add_sample(run, reply.says)
            self._add_content(run, token, reply.says)
            for other in self._stand_ins(token, reply.says["sub"]) - asked:
                self._add_profiles(run, other, reply.says["cronofy.data"])
        for (token, endpoint), reply in final.items():
            if endpoint != "account":
                self._well[token] = None if reply.says is None else reply.says["sub"]

    def _stand_ins(self, token: str, sub: str) -> set[str]:
        """The other tokens of an account that were well before this run; they are not polled."""
        tokens = {each for each, known in self._well.items() if known == sub}
        return tokens - {token} if token in tokens else set()

    def _add_sample(self, run: int, document: Document) -> None:
        sub, data = document["sub"], document["cronofy.data"]
        for profile_type, name in LISTS.items():
            if name not in data:
                continue
            listed = {entry["profile_id"]: entry for entry in data[name]}
            for profile_id, entry in listed.items():
                self._see(run, (sub, profile_type, profile_id), _state(entry), _attributes(entry))
            for key, (state, attributes) in list(self._last.items()):
                if key[:2] == (sub, profile_type) and key[2] not in listed and state != "removed":
                    self._write(run, key, "removed", "removed", attributes)

    def _see(self, run: int, key: tuple[str, str, str], state: str, attributes: tuple[Any, ...]) -> None:
        before = self._last.get(key)
        if before is None:
            self._write(run, key, "first_seen", state, attributes)
        elif before[0] == "removed":
            self._write(run, key, "reappeared", state, attributes)
        elif before[0] != state:
            self._write(run, key, state, state, attributes)
        elif before[1][:-1] != attributes[:-1]:
            self._write(run, key, "attributes", state, attributes)

    def _write(
        self, run: int, key: tuple[str, str, str], kind: str, state: str, attributes: tuple[Any, ...]
    ) -> None:
        previous = self._last[key][0] if key in self._last else None
        shown = None if state == "removed" else attributes
        self.changes[key].append(Change(run, kind, state, previous, shown))
        self._last[key] = (state, attributes)

    def _add_content(self, run: int, token: str, document: Document) -> None:
        if self.userinfo.get(token, {}) | {"cronofy.data": None} != document | {"cronofy.data": None}:
            self.userinfo_runs[token] = run
        self.userinfo[token] = document
        self._add_profiles(run, token, document["cronofy.data"])

    def _add_profiles(self, run: int, token: str, data: Document) -> None:
        sub = self.userinfo[token]["sub"]
        for profile_type, name in LISTS.items():
            if name not in data:
                continue
            listed = {entry["profile_id"]: entry for entry in data[name]}
            for profile_id, entry in listed.items():
                key = (token, profile_type, profile_id)
                content = (sub, _state(entry), _attributes(entry))
                if key not in self.profiles or self.profiles[key][:3] != content:
                    self.profiles[key] = (*content, run)
            for key, known in list(self.profiles.items()):
                if key[:2] == (token, profile_type) and key[2] not in listed and known[1] != "removed":
                    self.profiles[key] = (known[0], "removed", None, run)
        if "profiles" in data:
            self._add_calendars(token, data["profiles"])

    def _add_calendars(self, token: str, profiles: list[Document]) -> None:
        listed = {}
        for entry in profiles:
            for item in entry["profile_calendars"]:
                listed[item["calendar_id"]] = (
                    entry["profile_id"],
                    item["calendar_name"],
                    item["permission_level"],
                )
        for calendar_id, content in listed.items():
            self.calendars[token, calendar_id] = (*content, True)
        for key, known in list(self.calendars.items()):
            if key[0] == token and key[1] not in listed:
                self.calendars[key] = (*known[:3], False)


def _state(entry: Document) -> str:
    return "connected" if entry["profile_connected"] else "disconnected"


def _attributes(entry: Document) -> tuple[Any, ...]:
    return tuple(entry.get(name) for name in ATTRIBUTES)
