"""Other words for the members of the team: what a search of it may choose."""

from desk import reworded

from dspex.search import Hypothesis
from dspex.teams import WithProbabilities


def told(instruction: str) -> Hypothesis:
    """Return a member that asks in these words."""
    return Hypothesis(instruction, WithProbabilities(reworded(instruction)))


SETTINGS = {
    "landlord": [
        told("A tenant has written to the landlord. Which of the four is broken?"),
        told("Which workman has to come: for the heating, the plumbing, the electricity, or because of noise?"),
        told("Name the topic of the complaint."),
    ],
    "about": [
        told("Is it too cold, is something wet, is there no light, or is it too loud?"),
        told("Decide what the tenant is unhappy with."),
    ],
}
