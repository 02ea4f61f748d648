"""Teams of programs: several members answer the same question, and a rule makes one answer of theirs.

- `team` says who they are, and `program` is a team as a ``dspy.Module``; `actor` serves one, its members supervised,
  and `ladder` says which lesser answers it may give then. `reshaping` changes who its members are.
- `patterns` are other ways to ask: one member, the cheap one first, one program several times; or members talk, and
  `endings` say when that is over, and a `transcript` what was said.
- `rules` and `stacking` combine answers, as `ballot` has them, and `rule_files` keeps what was fitted; `poll` is one
  question. Members `WithProbabilities` say how sure they are, as `shares` has it. `declared` is what is known of the
  fields of members.
- `records` are answers that were asked for once; `weights` and `dawid_skene` say what they tell of members, and
  `composition` who makes the best team.
"""

# A team, and what it is asked as.
from dspex.teams.team import Team as Team
from dspex.teams.team import Member as Member
from dspex.teams.program import TeamProgram as TeamProgram

from dspex.teams.actor import TeamActor as TeamActor

# Who joins a team, and who leaves.
from dspex.teams.reshaping import ReshapeTeam as ReshapeTeam
from dspex.teams.reshaping import AddMember as AddMember
from dspex.teams.reshaping import DropMember as DropMember

# Lesser answers of a served team.
from dspex.teams.ladder import TeamLadder as TeamLadder
from dspex.teams.ladder import TeamRung as TeamRung

# One is asked, or few.
from dspex.teams.patterns.router import TeamRouter as TeamRouter
from dspex.teams.patterns.router import MemberRoute as MemberRoute
from dspex.teams.patterns.router import RouteBy as RouteBy
from dspex.teams.patterns.router import BanditRoute as BanditRoute
from dspex.teams.patterns.router import Routed as Routed
from dspex.teams.patterns.text_route import TextRoute as TextRoute
from dspex.teams.patterns.cascade import Cascade as Cascade
from dspex.teams.patterns.cascade import Calibration as Calibration
from dspex.teams.patterns.cascade import Escalation as Escalation
from dspex.teams.patterns.cascade import calibrate as calibrate
from dspex.teams.patterns.cascade import conformal_threshold as conformal_threshold
from dspex.teams.patterns.cascade import margin as margin
from dspex.teams.patterns.self_consistency import SelfConsistency as SelfConsistency
from dspex.teams.patterns.marks import Marks as Marks
from dspex.teams.patterns.marks import QuorumSensor as QuorumSensor

# They bid for tasks.
from dspex.teams.patterns.contract_net import ContractNet as ContractNet
from dspex.teams.patterns.contract_net import AllocateTask as AllocateTask
from dspex.teams.patterns.contract_net import RateTask as RateTask
from dspex.teams.patterns.contract_net import GetContractors as GetContractors
from dspex.teams.patterns.contract_net import Contract as Contract
from dspex.teams.patterns.contract_net import ContractorRecord as ContractorRecord
from dspex.teams.patterns.contract_net import NoBids as NoBids
from dspex.teams.patterns.contract_net import TaskBid as TaskBid
from dspex.teams.patterns.contract_net import AnnounceTask as AnnounceTask
from dspex.teams.patterns.contract_net import AwardTask as AwardTask
from dspex.teams.patterns.contract_net import ReportTask as ReportTask
from dspex.teams.patterns.contractor import Contractor as Contractor

# They work on a board.
from dspex.teams.patterns.blackboard import Blackboard as Blackboard
from dspex.teams.patterns.blackboard import BoardSource as BoardSource
from dspex.teams.patterns.blackboard import Board as Board
from dspex.teams.patterns.blackboard import BoardEntry as BoardEntry
from dspex.teams.patterns.blackboard import EntryConflict as EntryConflict

# How answers become one.
from dspex.teams.rules import CombinationRule as CombinationRule
from dspex.teams.rules import MajorityVote as MajorityVote
from dspex.teams.rules import WeightedVote as WeightedVote
from dspex.teams.rules import ConfusionVote as ConfusionVote
from dspex.teams.rules import SoftVote as SoftVote
from dspex.teams.rules import FirstAnswer as FirstAnswer
from dspex.teams.stacking import Stacking as Stacking
from dspex.teams.rules import CombinedAnswer as CombinedAnswer
from dspex.teams.shares import BadProbabilities as BadProbabilities
from dspex.teams.rule_files import write_rule as write_rule
from dspex.teams.rule_files import read_rule as read_rule

# Members that tell how probable their answers are.
from dspex.teams.probabilities import WithProbabilities as WithProbabilities

# What became of the members.
from dspex.teams.ballot import MemberAnswer as MemberAnswer
from dspex.teams.ballot import MemberVote as MemberVote
from dspex.teams.ballot import Outcome as Outcome
from dspex.teams.ballot import normal_form as normal_form

# What members have answered, once; and what that tells of them.
from dspex.teams.records import RecordedVotes as RecordedVotes
from dspex.teams.records import record as record
from dspex.teams.weights import accuracy_weight as accuracy_weight
from dspex.teams.weights import accuracy_weights as accuracy_weights
from dspex.teams.weights import confusion_of as confusion_of
from dspex.teams.weights import mean_probabilities as mean_probabilities
from dspex.teams.weights import agreement as agreement
from dspex.teams.weights import oracle as oracle
from dspex.teams.weights import shapley as shapley
from dspex.teams.dawid_skene import dawid_skene as dawid_skene
from dspex.teams.dawid_skene import DawidSkene as DawidSkene
from dspex.teams.dawid_skene import OnlineDawidSkene as OnlineDawidSkene
from dspex.teams.dawid_skene import ExpectedCounts as ExpectedCounts

# Who makes a team.
from dspex.teams.composition import compose as compose
from dspex.teams.composition import Need as Need
from dspex.teams.composition import Composition as Composition
from dspex.teams.composition import CompositionStep as CompositionStep
from dspex.teams.composition import best_teams as best_teams
from dspex.teams.composition import ScoredTeam as ScoredTeam

# Members talk: in which way, when that is over, and what was said.
from dspex.teams.patterns.group_chat import GroupChat as GroupChat
from dspex.teams.patterns.group_chat import SpeakerRule as SpeakerRule
from dspex.teams.patterns.group_chat import RoundRobin as RoundRobin
from dspex.teams.patterns.group_chat import RandomSpeaker as RandomSpeaker
from dspex.teams.patterns.group_chat import ChosenSpeaker as ChosenSpeaker
from dspex.teams.patterns.group_chat import speaker_signature as speaker_signature
from dspex.teams.patterns.debate import Debate as Debate
from dspex.teams.patterns.debate import Flips as Flips
from dspex.teams.patterns.debate import flips as flips
from dspex.teams.patterns.mixture import Mixture as Mixture
from dspex.teams.patterns.supervisor import ManagedTeam as ManagedTeam
from dspex.teams.patterns.supervisor import manager_signature as manager_signature
from dspex.teams.patterns.supervisor import planner_signature as planner_signature
from dspex.teams.patterns.handoff import HandoffTeam as HandoffTeam
from dspex.teams.patterns.handoff import Handoff as Handoff
from dspex.teams.patterns.handoff import ActiveMember as ActiveMember
from dspex.teams.endings import Ending as Ending
from dspex.teams.endings import Ended as Ended
from dspex.teams.endings import Turns as Turns
from dspex.teams.endings import Said as Said
from dspex.teams.endings import Agreed as Agreed
from dspex.teams.endings import Tokens as Tokens
from dspex.teams.endings import Dollars as Dollars
from dspex.teams.endings import Seconds as Seconds
from dspex.teams.endings import External as External
from dspex.teams.transcript import Transcript as Transcript
from dspex.teams.transcript import TeamTurn as TeamTurn
from dspex.teams.transcript import BadTranscript as BadTranscript

# Events.
from dspex.teams.events import TeamAnswered as TeamAnswered
from dspex.teams.events import MemberMissing as MemberMissing
from dspex.teams.events import TeamDegraded as TeamDegraded
from dspex.teams.events import EscalationAlarm as EscalationAlarm
from dspex.teams.events import TeamReshaped as TeamReshaped

# Errors.
from dspex.teams.errors import AlreadyHandedOff as AlreadyHandedOff
from dspex.teams.errors import BadTeam as BadTeam
from dspex.teams.errors import NoAnswer as NoAnswer
from dspex.teams.errors import TooFewAnswers as TooFewAnswers
from dspex.teams.weights import BadWeights as BadWeights
