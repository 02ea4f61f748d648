"""Guarded rollouts: a version of a program is tried on a part of its traffic, judged, and promoted or rolled back.

`rule` is the statistics, `machine` the states, both pure; `counts` is what is counted, `bucketing` who meets which
version; `actor` is the one writer that decides, by what the `journal` keeps.
"""

from dspex.serving.rollout.actor import RolloutActor as RolloutActor
from dspex.serving.rollout.bucketing import bucket as bucket
from dspex.serving.rollout.counts import StepCounts as StepCounts
from dspex.serving.rollout.events import RolloutMoved as RolloutMoved
from dspex.serving.rollout.events import RolloutUnwritten as RolloutUnwritten
from dspex.serving.rollout.events import ScoreMissing as ScoreMissing
from dspex.serving.rollout.events import ShadowBudgetSpent as ShadowBudgetSpent
from dspex.serving.rollout.events import ShadowSkipped as ShadowSkipped
from dspex.serving.rollout.machine import RolloutRecord as RolloutRecord
from dspex.serving.rollout.machine import next_move as next_move
from dspex.serving.rollout.machine import recompute as recompute
