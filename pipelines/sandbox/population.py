"""Draws the accounts, their tokens and the mass events of a world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from random import Random
from typing import Literal, get_args

from . import people
from .history import DAY, Fate, Span, connect_again, draw_profile, draw_stuck_profile, make_read_only
from .people import Person, Provider, draw_id, draw_letters, draw_person
from .records import Account, Body, Invited, Profile, SandboxToken, Wave

FULL_SCOPE = "read_write"
LISTED_SCOPE = "read_events create_event delete_event read_free_busy change_participation_status"
SERVICE_SCOPE = "service_account/accounts/manage service_account/resources/manage"

SERVICE_ACCOUNT_SHARE = 0.03
APPLICATION_CALENDAR_SHARE = 0.02
FLAPPING_SHARE = 0.015
SHARED_ACCOUNT_SHARE = 0.06
FORBIDDEN_TOKEN_SHARE = 0.01
REVOKED_TOKEN_SHARE = 0.025
WITHOUT_REFRESH_TOKEN_SHARE = 0.04
NULL_NAME_SHARE = 0.03
MISSING_NAME_SHARE = 0.03
LATE_PROFILE_SHARE = 0.08
AFFLICTED_SHARE = 0.015
LEAVING_SHARE = 0.025
INVITED_SHARE = 0.02
VOLATILE_LINKS_SHARE = 0.2
# of those who work for one employer, on the day their sessions are revoked
CUSTOMER_WAVE_SHARE = 0.85
DAYS_PER_WAVE = 30
LONGEST_PAST_SECONDS = 90 * DAY
SMALLEST_VARIED_POPULATION = 10

Kind = Literal["user", "flapping_user", "service_account", "application_calendar"]
Affliction = Literal["stuck", "read_only", "connected_again"]


@dataclass(frozen=True)
class Population:
    """What a world is drawn from: how many accounts, the seed, and the time it covers.

    Every part of the world has a random generator of its own, so that none depends on how another is drawn.
    """

    accounts: int
    seed: int
    span: Span

    @cached_property
    def waves(self) -> tuple[Wave, ...]:
        """The mass events: about one in 30 days, and one at one customer; none within a week."""
        rng, seconds = self._rng("waves"), self.span.seconds
        count = max(1, round(seconds / DAY / DAYS_PER_WAVE)) if seconds >= 7 * DAY else 0
        waves = self._draw_customer_waves() if count else []
        waves += [
            Wave(
                at=self.span.instant(rng.uniform(0.25, 0.8) * seconds),
                provider_service=rng.choice(("office365", "office365", "gsuite", "exchange", "icloud")),
                share=rng.uniform(0.3, 0.5),
            )
            for _ in range(count)
        ]
        return tuple(sorted(waves, key=lambda wave: wave.at))

    def _draw_customer_waves(self) -> list[Wave]:
        rng = self._rng("customer waves")
        at = self.span.instant(rng.uniform(0.58, 0.7) * self.span.seconds)
        return [
            Wave(at, CUSTOMER_WAVE_SHARE, email_domain=rng.choice(("contoso.example", "northwind.example")))
        ]

    def draw_accounts(self) -> tuple[Account, ...]:
        """Returns the accounts."""
        kinds = self._deal_kinds()
        users = [index for index, kind in enumerate(kinds) if kind == "user"]
        fates = self._rng("afflictions")
        fates.shuffle(users)
        afflictions: dict[int, Affliction] = {}
        for affliction in get_args(Affliction):
            afflictions |= {
                users.pop(): affliction for _ in range(self._quota(AFFLICTED_SHARE, self.accounts))
            }
        leaving = {users.pop() for _ in range(self._quota(LEAVING_SHARE, self.accounts))}
        accounts = [self._draw_account(index, kind) for index, kind in enumerate(kinds)]
        for index, affliction in afflictions.items():
            accounts[index] = self._afflict(accounts[index], affliction, self._rng("affliction", index))
        for index in sorted(leaving):
            left_at = self.span.instant(fates.uniform(0.1, 0.9) * self.span.seconds)
            accounts[index] = replace(accounts[index], left_at=left_at)
        return tuple(accounts)

    def draw_invited(self, tokens: Sequence[SandboxToken]) -> tuple[Invited, ...]:
        """Returns the users of the application who have not connected yet."""
        rng, customers = self._rng("invited"), sorted(set(people.CUSTOMERS.values()))
        count = self._quota(INVITED_SHARE, self.accounts)
        return tuple(Invited(_key(len(tokens) + index), rng.choice(customers)) for index in range(count))

    def draw_tokens(self, accounts: Sequence[Account]) -> tuple[SandboxToken, ...]:
        """Returns one token per account and further ones for those that several tokens share."""
        rng = self._rng("tokens")
        users = [account for account in accounts if account.type == "account"]
        sharing = rng.sample(users, min(self._quota(SHARED_ACCOUNT_SHARE, len(accounts)), len(users)))
        holders = [*accounts, *sharing, *sharing[:1]]
        forbidden = self._sample_indexes(rng, holders, FORBIDDEN_TOKEN_SHARE)
        revoked = self._sample_indexes(rng, holders, REVOKED_TOKEN_SHARE) - forbidden
        return tuple(
            self._draw_token(index, holder, forbidden=index in forbidden, revoked=index in revoked)
            for index, holder in enumerate(holders)
        )

    def _rng(self, *names: object) -> Random:
        return Random(f"{self.seed}/" + "/".join(map(str, names)))  # noqa: S311 - a simulation, no secrets

    def _quota(self, share: float, of: int) -> int:
        """Returns how many of `of` make up `share`: one at least, none in a population too small to vary."""
        return max(1, round(share * of)) if self.accounts >= SMALLEST_VARIED_POPULATION else 0

    def _sample_indexes(self, rng: Random, holders: Sequence[Account], share: float) -> set[int]:
        users = [index for index, holder in enumerate(holders) if holder.type == "account"]
        return set(rng.sample(users, min(self._quota(share, len(holders)), len(users))))

    def _draw_token(self, index: int, holder: Account, *, forbidden: bool, revoked: bool) -> SandboxToken:
        rng = self._rng("token", index)
        access_token, refresh_token = draw_letters(rng, 32), draw_letters(rng, 32)
        has_refresh_token = rng.random() >= WITHOUT_REFRESH_TOKEN_SHARE
        scope = SERVICE_SCOPE if holder.type == "service_account" else rng.choice((FULL_SCOPE, LISTED_SCOPE))
        return SandboxToken(
            key=_key(index),
            access_token=access_token,
            refresh_token=refresh_token if has_refresh_token else None,
            data_center=holder.data_center,
            account_id=holder.account_id,
            scope="read_free_busy" if forbidden else scope,
            forbidden=frozenset({"userinfo"} if forbidden else ()),
            revoked_at=self.span.instant(rng.uniform(-0.1, 1.0) * self.span.seconds) if revoked else None,
            customer=holder.customer,
            left_at=holder.left_at,
        )

    def _deal_kinds(self) -> list[Kind]:
        services = max(self._quota(SERVICE_ACCOUNT_SHARE, self.accounts), 2 * self._quota(0, 1))
        kinds: list[Kind] = ["service_account"] * services
        kinds += ["application_calendar"] * self._quota(APPLICATION_CALENDAR_SHARE, self.accounts)
        kinds += ["flapping_user"] * self._quota(FLAPPING_SHARE, self.accounts)
        kinds += ["user"] * (self.accounts - len(kinds))
        self._rng("kinds").shuffle(kinds)
        return kinds

    def _draw_account(self, index: int, kind: Kind) -> Account:
        rng = self._rng("account", index)
        if kind == "service_account":
            return _draw_service_account(rng, draw_person(rng))
        if kind == "application_calendar":
            return self._draw_application_calendar(rng, index)
        return self._draw_user(rng, index, flapping=kind == "flapping_user")

    def _draw_application_calendar(self, rng: Random, index: int) -> Account:
        calendar_id = f"app{index:04d}"
        fate = self._draw_settled(rng)
        return Account(
            account_id=draw_id(rng, "apc"),
            type="application_calendar",
            zoneinfo="Etc/UTC",
            data_center="us",
            profiles=(draw_profile(rng, people.CALENDAR_PROVIDERS["cronofy"], calendar_id, self.span, fate),),
            extras={"application_calendar_id": calendar_id},
            data={"application_calendar": {"application_calendar_id": calendar_id}},
        )

    def _draw_user(self, rng: Random, index: int, *, flapping: bool) -> Account:
        person = draw_person(rng)
        # the number keeps namesakes apart
        slug, employer = f"{person.slug}{index}", rng.choice(people.EMPLOYERS)
        name_draw = rng.random()
        nameless = name_draw < NULL_NAME_SHARE + MISSING_NAME_SHARE
        return Account(
            account_id=draw_id(rng, "acc"),
            type="account",
            email=f"{slug}@{employer}",
            name=None if nameless else person.name,
            omits_name=nameless and name_draw >= NULL_NAME_SHARE,
            zoneinfo=person.zoneinfo,
            data_center=person.data_center,
            profiles=self._draw_user_profiles(rng, slug, employer, flapping=flapping),
            customer=people.CUSTOMERS.get(employer),
            volatile_links=self._rng("links", index).random() < VOLATILE_LINKS_SHARE,
        )

    def _afflict(self, account: Account, affliction: Affliction, rng: Random) -> Account:
        """Returns the account with that trouble: early, a third of it from the start on."""
        begin = max(0.0, rng.uniform(-0.1, 0.2) * self.span.seconds)
        if affliction == "stuck":
            name = f"{(account.email or '').partition('@')[0]}@{people.PRIVATE_DOMAINS['google']}"
            return replace(
                account, profiles=(*account.profiles, draw_stuck_profile(rng, name, self.span, begin))
            )
        if affliction == "read_only":
            at = self.span.instant(begin)
            return replace(account, profiles=tuple(make_read_only(each, at) for each in account.profiles))
        begin = rng.uniform(0.05, 0.3) * self.span.seconds
        at = self.span.instant(begin)
        connected = [each for each in account.profiles if each.history.at(at).link == "connected"]
        if not connected:
            return account
        others = tuple(each for each in account.profiles if each is not connected[0])
        return replace(account, profiles=(*connect_again(rng, connected[0], self.span, begin), *others))

    def _draw_user_profiles(
        self, rng: Random, slug: str, employer: str, *, flapping: bool
    ) -> tuple[Profile, ...]:
        main = _weighted(rng, people.MAIN_SERVICES)
        further = rng.choices((0, 1, 2, 3), (56, 30, 11, 3))[0]
        services = [main, *(_weighted(rng, people.FURTHER_SERVICES) for _ in range(further))]
        begins = [_draw_past(rng) for _ in services]
        if rng.random() < LATE_PROFILE_SHARE:
            services.append(_weighted(rng, people.FURTHER_SERVICES))
            begins.append(rng.uniform(0.05, 0.95) * self.span.seconds)
        domains = [employer, *(people.PRIVATE_DOMAINS[service] for service in services[1:])]
        bouts = _draw_bouts(rng, self.span.seconds) if flapping else ()
        profiles = []
        for number, (service, domain, begin) in enumerate(zip(services, domains, begins, strict=True)):
            provider = people.CALENDAR_PROVIDERS[service]
            fate = self._meet(provider, domain, begin, bouts if number == 0 else ())
            profiles.append(draw_profile(rng, provider, f"{slug}@{domain}", self.span, fate))
        profiles += self._draw_conferencing(rng, main, f"{slug}@{employer}")
        return tuple(each for each in profiles if any(s.link != "absent" for s in each.history.values))

    def _draw_conferencing(self, rng: Random, main: str, name: str) -> list[Profile]:
        shares = people.CONFERENCING_SHARES.get(main, people.OTHER_CONFERENCING_SHARES)
        slugs = [slug for slug, share in shares.items() if rng.random() < share]
        fates = [self._draw_settled(rng) for _ in slugs]
        return [
            draw_profile(rng, people.CONFERENCING_PROVIDERS[slug], name, self.span, fate)
            for slug, fate in zip(slugs, fates, strict=True)
        ]

    def _draw_settled(self, rng: Random) -> Fate:
        """Returns the fate of a profile that no mass event reaches."""
        return Fate(begin=_draw_past(rng), end=self.span.seconds)

    def _meet(self, provider: Provider, domain: str, begin: float, bouts: Sequence[float]) -> Fate:
        """Returns the fate of a profile that the mass events of its service or its employer may reach."""
        hits = [
            ((wave.at - self.span.start) / timedelta(seconds=1), wave.share)
            for wave in self.waves
            if wave.reaches(provider.service, domain)
        ]
        return Fate(begin=begin, end=self.span.seconds, waves=hits, bouts=bouts)


def _draw_service_account(rng: Random, person: Person) -> Account:
    """Returns a service account: some have no known domain, some a user name, some the older flat keys."""
    domain, flat = rng.choice(people.EMPLOYERS), rng.random() < 0.35
    provider = rng.choice(("exchange", "google"))
    names_domain = flat or rng.random() < 0.7
    described: Body = {"provider_name": provider} | ({"domain": domain} if names_domain else {})
    return Account(
        account_id=draw_id(rng, "ser"),
        type="service_account",
        email=f"calendar-sync@{domain}" if rng.random() < 0.7 else "CONTOSO\\svc-calendar",
        zoneinfo=person.zoneinfo,
        data_center=person.data_center,
        extras={"cronofy.service_account.domain": domain} if flat else {},
        data={} if flat else {"service_account": described},
        authorization={"delegated_scope": FULL_SCOPE},
        customer=people.CUSTOMERS.get(domain),
    )


def _key(index: int) -> str:
    return f"user_{1001 + index}"


def _draw_past(rng: Random) -> float:
    """Returns when a settled profile was linked: seconds before the start, as a negative number."""
    return -rng.uniform(2 * DAY, LONGEST_PAST_SECONDS)


def _draw_bouts(rng: Random, seconds: float) -> tuple[float, ...]:
    """Returns when a flapping profile flaps: mostly so late that it still does at the end."""
    latest = seconds - rng.uniform(2, 5) * DAY
    return (latest,) if rng.random() < 0.6 else (rng.uniform(0.1, 0.8) * seconds,)


def _weighted(rng: Random, weights: Mapping[str, int]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]
