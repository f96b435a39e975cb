"""Draws the accounts, their tokens and the mass events of a world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Literal

from .links import DAY, Fate
from .people import EMPLOYERS, PRIVATE_DOMAINS, Person, draw_id, draw_letters, draw_person
from .profiles import Span, draw_past, draw_profile, drop_unseen
from .providers import (
    CALENDAR_PROVIDERS,
    CONFERENCING_PROVIDERS,
    CONFERENCING_SHARES,
    FURTHER_SERVICES,
    MAIN_SERVICES,
    OTHER_CONFERENCING_SHARES,
    Provider,
)
from .records import Account, Endpoint, Profile, SandboxToken, ServiceAccount, Wave

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
DAYS_PER_WAVE = 30
SMALLEST_VARIED_POPULATION = 10

Kind = Literal["user", "flapping_user", "service_account", "application_calendar"]


@dataclass(frozen=True)
class Plan:
    """What a world is drawn from. `seed` alone feeds every generator; none is shared between accounts."""

    accounts: int
    seed: int
    span: Span

    def rng(self, *names: object) -> Random:
        """Returns the generator of one part of the world, which no other part draws from."""
        return Random(f"{self.seed}/" + "/".join(map(str, names)))  # noqa: S311 - a simulation, no secrets

    def quota(self, share: float, of: int) -> int:
        """Returns how many of `of` make up `share`: one at least, none in a population too small to vary."""
        return max(1, round(share * of)) if self.accounts >= SMALLEST_VARIED_POPULATION else 0


def draw_waves(plan: Plan) -> tuple[Wave, ...]:
    """Returns the mass events: about one in 30 days, in the middle half of the span; none within a week."""
    rng, seconds = plan.rng("waves"), plan.span.seconds
    count = max(1, round(seconds / DAY / DAYS_PER_WAVE)) if seconds >= 7 * DAY else 0
    waves = [
        Wave(
            at=plan.span.instant(rng.uniform(0.25, 0.8) * seconds),
            provider_service=rng.choice(("office365", "office365", "gsuite", "exchange", "icloud")),
            share=rng.uniform(0.3, 0.5),
        )
        for _ in range(count)
    ]
    return tuple(sorted(waves, key=lambda wave: wave.at))


def draw_accounts(plan: Plan, waves: Sequence[Wave]) -> tuple[Account, ...]:
    """Returns the accounts; number i draws from a generator of its own."""
    kinds = _deal_kinds(plan)
    return tuple(_draw_account(plan, waves, index, kind) for index, kind in enumerate(kinds))


def draw_tokens(plan: Plan, accounts: Sequence[Account]) -> tuple[SandboxToken, ...]:
    """Returns one token per account and further ones for those that several tokens share."""
    rng = plan.rng("tokens")
    users = [account for account in accounts if account.type == "account"]
    sharing = rng.sample(users, min(plan.quota(SHARED_ACCOUNT_SHARE, len(accounts)), len(users)))
    holders = [*accounts, *sharing, *sharing[:1]]
    forbidden = _sample_indexes(rng, holders, plan.quota(FORBIDDEN_TOKEN_SHARE, len(holders)))
    revoked = _sample_indexes(rng, holders, plan.quota(REVOKED_TOKEN_SHARE, len(holders))) - forbidden
    return tuple(
        _draw_token(plan, index, holder, forbidden=index in forbidden, revoked=index in revoked)
        for index, holder in enumerate(holders)
    )


def _sample_indexes(rng: Random, holders: Sequence[Account], count: int) -> set[int]:
    users = [index for index, holder in enumerate(holders) if holder.type == "account"]
    return set(rng.sample(users, min(count, len(users))))


def _draw_token(plan: Plan, index: int, holder: Account, *, forbidden: bool, revoked: bool) -> SandboxToken:
    rng = plan.rng("token", index)
    secrets = draw_letters(rng, 32), draw_letters(rng, 32)
    has_refresh_token = rng.random() >= WITHOUT_REFRESH_TOKEN_SHARE
    scope = SERVICE_SCOPE if holder.service_account else rng.choice((FULL_SCOPE, LISTED_SCOPE))
    unreachable: frozenset[Endpoint] = frozenset({"userinfo"}) if forbidden else frozenset()
    return SandboxToken(
        key=f"user_{1001 + index}",
        access_token=secrets[0],
        refresh_token=secrets[1] if has_refresh_token else None,
        data_center=holder.data_center,
        account_id=holder.account_id,
        scope="read_free_busy" if forbidden else scope,
        forbidden=unreachable,
        revoked_at=plan.span.instant(rng.uniform(-0.1, 1.0) * plan.span.seconds) if revoked else None,
    )


def _deal_kinds(plan: Plan) -> list[Kind]:
    services = max(plan.quota(SERVICE_ACCOUNT_SHARE, plan.accounts), 2 * plan.quota(0, 1))
    kinds: list[Kind] = ["service_account"] * services
    kinds += ["application_calendar"] * plan.quota(APPLICATION_CALENDAR_SHARE, plan.accounts)
    kinds += ["flapping_user"] * plan.quota(FLAPPING_SHARE, plan.accounts)
    kinds += ["user"] * (plan.accounts - len(kinds))
    plan.rng("kinds").shuffle(kinds)
    return kinds


def _draw_account(plan: Plan, waves: Sequence[Wave], index: int, kind: Kind) -> Account:
    rng = plan.rng("account", index)
    if kind == "service_account":
        return _draw_service_account(rng, draw_person(rng))
    if kind == "application_calendar":
        return _draw_application_calendar(rng, plan, index)
    return _draw_user(rng, plan, waves, index, flapping=kind == "flapping_user")


def _draw_service_account(rng: Random, person: Person) -> Account:
    """Returns a service account: some have no known domain, some are named by a user name, some are flat."""
    domain, flat = rng.choice(EMPLOYERS), rng.random() < 0.35
    service_account = ServiceAccount(
        provider_name=rng.choice(("exchange", "google")),
        domain=domain if flat or rng.random() < 0.7 else None,
        delegated_scope=FULL_SCOPE,
        flat=flat,
    )
    return Account(
        account_id=draw_id(rng, "ser"),
        type="service_account",
        email=f"calendar-sync@{domain}" if rng.random() < 0.7 else "CONTOSO\\svc-calendar",
        name=None,
        omits_name=True,
        zoneinfo=person.zoneinfo,
        data_center=person.data_center,
        service_account=service_account,
    )


def _draw_application_calendar(rng: Random, plan: Plan, index: int) -> Account:
    calendar_id = f"app{index:04d}"
    fate = Fate(begin=draw_past(rng), end=plan.span.seconds)
    return Account(
        account_id=draw_id(rng, "apc"),
        type="application_calendar",
        email=None,
        name=None,
        omits_name=True,
        zoneinfo="Etc/UTC",
        data_center="us",
        profiles=(draw_profile(rng, CALENDAR_PROVIDERS["cronofy"], calendar_id, plan.span, fate),),
        application_calendar_id=calendar_id,
    )


def _draw_user(rng: Random, plan: Plan, waves: Sequence[Wave], index: int, *, flapping: bool) -> Account:
    person = draw_person(rng)
    # the number keeps namesakes apart
    slug, employer = f"{person.slug}{index}", rng.choice(EMPLOYERS)
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
        profiles=_draw_user_profiles(rng, plan, waves, slug, employer, flapping=flapping),
    )


def _draw_user_profiles(
    rng: Random, plan: Plan, waves: Sequence[Wave], slug: str, employer: str, *, flapping: bool
) -> tuple[Profile, ...]:
    main = _weighted(rng, MAIN_SERVICES)
    services = [main]
    for _ in range(rng.choices((0, 1, 2, 3), (56, 30, 11, 3))[0]):
        services.append(_weighted(rng, FURTHER_SERVICES))  # noqa: PERF401 - each draw follows the one before
    domains = [employer, *(PRIVATE_DOMAINS[service] for service in services[1:])]
    begins = [draw_past(rng) for _ in services]
    if rng.random() < LATE_PROFILE_SHARE:
        services.append(_weighted(rng, FURTHER_SERVICES))
        domains.append(PRIVATE_DOMAINS[services[-1]])
        begins.append(rng.uniform(0.05, 0.95) * plan.span.seconds)
    bouts = _draw_bouts(rng, plan.span.seconds) if flapping else ()
    profiles = []
    for number, (service, domain, begin) in enumerate(zip(services, domains, begins, strict=True)):
        provider = CALENDAR_PROVIDERS[service]
        fate = _draw_fate(plan, waves, provider, begin, bouts if number == 0 else ())
        profiles.append(draw_profile(rng, provider, f"{slug}@{domain}", plan.span, fate))
    return drop_unseen([*profiles, *_draw_conferencing(rng, plan, main, f"{slug}@{employer}")])


def _draw_conferencing(rng: Random, plan: Plan, main: str, name: str) -> list[Profile]:
    shares = CONFERENCING_SHARES.get(main, OTHER_CONFERENCING_SHARES)
    slugs = [slug for slug, share in shares.items() if rng.random() < share]
    fates = [Fate(begin=draw_past(rng), end=plan.span.seconds) for _ in slugs]
    return [
        draw_profile(rng, CONFERENCING_PROVIDERS[slug], name, plan.span, fate)
        for slug, fate in zip(slugs, fates, strict=True)
    ]


def _draw_fate(
    plan: Plan, waves: Sequence[Wave], provider: Provider, begin: float, bouts: Sequence[float]
) -> Fate:
    hits = [
        ((wave.at - plan.span.start) / timedelta(seconds=1), wave.share)
        for wave in waves
        if wave.provider_service == provider.service
    ]
    return Fate(begin=begin, end=plan.span.seconds, waves=hits, bouts=bouts)


def _draw_bouts(rng: Random, seconds: float) -> tuple[float, ...]:
    """Returns when a flapping profile flaps: mostly so late that it still does at the end."""
    latest = seconds - rng.uniform(2, 5) * DAY
    return (latest,) if rng.random() < 0.6 else (rng.uniform(0.1, 0.8) * seconds,)


def _weighted(rng: Random, weights: Mapping[str, int]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]
