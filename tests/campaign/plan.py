"""The kill plan: what happens in which round. The same seed draws the same plan."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from random import Random

from .killed_load import HEALING, INSTANTS

# polls of a package in the rounds whose loads go in several packages
SMALL_PACKAGE = 40


@dataclass(frozen=True)
class Round:
    """One round: loads that are killed, then one that is not.

    Attributes:
        kills: one killed load each; the instant as a share of the time an undisturbed load takes, or its
            name.
        package_polls: polls of a package in the killed loads, None for the product's own size, which holds
            all polls of this world.
        first: the kills hit the first load of a warehouse of its own, which is thrown away afterwards.
        loses_working_directory: dlt's working files are deleted after the last kill.
        turns: the world changes again before the load that is not killed.
        resumes: that load asks only for tokens that were not read successfully in this round.
        by_command: that load is the command as well, instead of the same code in this process.
    """

    number: int
    kills: tuple[float | str, ...]
    package_polls: int | None = None
    first: bool = False
    loses_working_directory: bool = False
    turns: bool = False
    resumes: bool = False
    by_command: bool = False


# where a load can be killed that puts in order what another one left
SETTLING = (
    "pending packages not looked at",
    "content normalized twice over",
    "all normalized",
    "content half loaded",
    "content loaded, not noted",
    "content loaded",
    "nothing prepared",
    *HEALING,
    "plan",
)
# what each of them leaves in the working directory, which is lost then, is another part of a package
LOSING = (
    "content without evidence",
    "content half loaded",
    "content loaded",
    "first table of evidence merged",
    "second table of evidence merged",
    "third table of evidence merged",
    "evidence loaded, not noted",
    "second turn",
    "run not closed",
)


def rounds_at_instants() -> Sequence[Round]:
    """A kill at every instant that has a name, with the world another one at the next load."""
    several = ((name,) for name in INSTANTS), (("content without evidence", name) for name in SETTLING)
    rounds = [Round(0, names, SMALL_PACKAGE, turns=True) for names in chain(*several)]
    rounds += [Round(0, (name,), SMALL_PACKAGE, loses_working_directory=True, turns=True) for name in LOSING]
    # what is healed is healed, whatever becomes of the directory after that
    rounds += [
        Round(0, ("second table of evidence merged", name), loses_working_directory=True) for name in HEALING
    ]
    return [replace(each, number=number) for number, each in enumerate(rounds)]


def draw_round(seed: int, destination: str, number: int) -> Round:
    """The plan of one round, whatever became of those before it."""
    dice = Random(f"{seed}/{destination}/{number}")
    package_polls = dice.choice((None, None, SMALL_PACKAGE))
    return Round(
        number,
        kills=tuple(dice.random() for _ in range(dice.choice((1, 1, 1, 1, 2)))),
        package_polls=package_polls,
        first=dice.random() < 0.1,
        # of several packages nobody could say which polls were in the one that is half loaded
        loses_working_directory=dice.random() < 0.18 and package_polls is None,
        turns=dice.random() < 0.35,
        resumes=dice.random() < 0.35,
        by_command=dice.random() < 0.2,
    )
