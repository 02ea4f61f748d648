"""Search among programs: races, in which the better ones are looked at on more examples, and ascents of teams.

- `race` is one optimiser; `rules` says who goes on, as values that know neither clock nor actors.
- `hypothesis` is what races, and what makes it; `items` the order of the examples.
- `team_variables` is what there is to choose in a team, for BEACON.
- `explorers` look at hypotheses; `report` says what was found.
- `team_simba` is the other optimiser; `credit` says which member of a team has made a difference.
"""

# The race, and its rules.
from dspex.search.race import Race as Race
from dspex.search.rules import RaceRule as RaceRule
from dspex.search.rules import Halving as Halving
from dspex.search.rules import Asha as Asha
from dspex.search.rules import PairedRace as PairedRace

# SIMBA for teams.
from dspex.search.team_simba import TeamSIMBA as TeamSIMBA

# What races.
from dspex.search.hypothesis import Hypothesis as Hypothesis
from dspex.search.hypothesis import Configurations as Configurations

# What there is to choose in a team.
from dspex.search.team_variables import TeamVariables as TeamVariables

# What is found.
from dspex.search.report import RaceReport as RaceReport
from dspex.search.report import HypothesisResult as HypothesisResult

# Events.
from dspex.search.events import HypothesisDropped as HypothesisDropped
from dspex.search.events import HypothesisSuspended as HypothesisSuspended

# Errors.
from dspex.search.errors import BadHypotheses as BadHypotheses
