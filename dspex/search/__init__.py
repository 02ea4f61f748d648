"""Search among programs: races, where the better ones are looked at on more examples; of teams; by populations.

- `race` is one optimiser, `heat` one race of it; `rules` says who goes on, as values that know neither clock nor
  actors.
- `hypothesis` is what races, and what makes it; `items` the order of the examples.
- `population` trains several at once, of which the worst copy from the best, by `population_rules`; its report is
  `population_report`.
- `team_variables` is what there is to choose in a team, for BEACON.
- `explorers` look at hypotheses; `report` says what was found.
- `team_simba` is another one: `ascent` is one ascent, `credit` says which member of a team has made a
  difference, `structure` what else of a team can change; `islands` meet in a ring, an `archipelago` is all of them.
- `team_search` is the optimiser of teams: settings of `members` race, `subsets` says who makes the best team by
  recorded answers, and `team_report` what was found.
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

# A population, in which the worst copy from the best.
from dspex.search.population import PopulationBasedTraining as PopulationBasedTraining
from dspex.search.population import Training as Training
from dspex.search.population import TrainingStep as TrainingStep
from dspex.search.population_rules import PopulationRule as PopulationRule
from dspex.search.population_report import PopulationReport as PopulationReport
from dspex.search.population_report import MemberStep as MemberStep

# What there is to choose in a team.
from dspex.search.team_variables import TeamVariables as TeamVariables

# The search of a team, and teams over recorded answers.
from dspex.search.team_search import TeamSearch as TeamSearch
from dspex.search.subsets import RecordedCandidates as RecordedCandidates
from dspex.search.subsets import TeamScore as TeamScore
from dspex.search.subsets import every_team as every_team
from dspex.search.subsets import picked_teams as picked_teams
from dspex.search.subsets import best_team as best_team
from dspex.search.subsets import distinct as distinct

# What is found.
from dspex.search.report import RaceReport as RaceReport
from dspex.search.report import HypothesisResult as HypothesisResult
from dspex.search.team_report import TeamSearchReport as TeamSearchReport
from dspex.search.team_report import BlockResult as BlockResult
from dspex.search.team_report import StageResult as StageResult
from dspex.search.ascent_report import Migration as Migration
from dspex.search.ascent_report import AscentReport as AscentReport

# Events.
from dspex.search.events import HypothesisDropped as HypothesisDropped
from dspex.search.events import HypothesisSuspended as HypothesisSuspended
from dspex.search.events import SearchStageDone as SearchStageDone
from dspex.search.events import PopulationMemberCopied as PopulationMemberCopied
from dspex.search.events import PopulationMemberLost as PopulationMemberLost
from dspex.search.events import ProgramMigrated as ProgramMigrated
from dspex.search.events import RingClosed as RingClosed

# Errors.
from dspex.search.errors import BadHypotheses as BadHypotheses
from dspex.search.errors import BadMember as BadMember
from dspex.search.errors import EveryMemberFailed as EveryMemberFailed
