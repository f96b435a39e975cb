"""The kill plan: what happens in which round. The same seed draws the same plan."""

from dataclasses import dataclass
from random import Random

# tokens of a batch in the rounds whose loads go in several batches
SMALL_BATCH = 30


@dataclass(frozen=True)
class Round:
    """One round: loads that are killed, then one that is not.

    Attributes:
        kills: one killed load each; the instant as a share of the time an undisturbed load takes.
        batch_tokens: tokens of a batch in the killed loads, None for the product's own size.
        first: the kills hit the first load of a warehouse of its own, which is thrown away afterwards.
        loses_working_directory: dlt's working files are deleted after the last kill.
        turns: the world changes again before the load that is not killed.
        resumes: that load asks only for tokens that were not read successfully in this round.
        by_command: that load is the command as well, instead of the same code in this process.
    """

    number: int
    kills: tuple[float, ...]
    batch_tokens: int | None = None
    first: bool = False
    loses_working_directory: bool = False
    turns: bool = False
    resumes: bool = False
    by_command: bool = False


def draw_round(seed: int, destination: str, number: int) -> Round:
    """The plan of one round, whatever became of those before it."""
    dice = Random(f"{seed}/{destination}/{number}")
    return Round(
        number,
        kills=tuple(dice.random() for _ in range(dice.choice((1, 1, 1, 1, 2)))),
        batch_tokens=dice.choice((None, None, SMALL_BATCH)),
        first=dice.random() < 0.1,
        loses_working_directory=dice.random() < 0.12,
        turns=dice.random() < 0.35,
        resumes=dice.random() < 0.35,
        by_command=dice.random() < 0.2,
    )
