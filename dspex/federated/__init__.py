"""Federations: clients keep their examples, and weights, or the choice of a prompt, are found from all of them.

- `federation` is the actor that holds the rounds, by a plan of `plans`; `client` is one that has examples. `round` is a
  round as a value, and `messages` what travels between them.
- `averaging` has the rules that make weights of those of the clients, as `weights` keeps them; `choices` those that
  choose among candidates by exact sums.
- `learners` are clients' work that is there already; `stacking` is that for the rule of a team, and
  `program_scorer` runs DSPy programs. `masks` are secure sums, and `noise` hides single examples.
"""

# The actors.
from dspex.federated.federation import Federation as Federation
from dspex.federated.federation import FederationResult as FederationResult
from dspex.federated.federation import ResumeFederation as ResumeFederation
from dspex.federated.federation import RoundSummary as RoundSummary
from dspex.federated.client import Client as Client
from dspex.federated.client import ProcessClient as ProcessClient

# What a federation is to find.
from dspex.federated.plans import FederatedAveraging as FederatedAveraging
from dspex.federated.plans import FederatedChoice as FederatedChoice
from dspex.federated.plans import FederationPlan as FederationPlan
from dspex.federated.weights import Weights as Weights
from dspex.federated.weights import WeightArray as WeightArray

# A round.
from dspex.federated.round import Rounds as Rounds
from dspex.federated.round import RoundEnd as RoundEnd
from dspex.federated.round import FederatedRound as FederatedRound

# What clients do.
from dspex.federated.client import Learner as Learner
from dspex.federated.client import LocalUpdate as LocalUpdate
from dspex.federated.client import Scorer as Scorer
from dspex.federated.messages import RunRound as RunRound
from dspex.federated.messages import TrainWeights as TrainWeights
from dspex.federated.messages import ScoreCandidates as ScoreCandidates
from dspex.federated.messages import ClientReport as ClientReport

# Rules for weights.
from dspex.federated.averaging import AveragingRule as AveragingRule
from dspex.federated.averaging import FedAvg as FedAvg
from dspex.federated.averaging import FedProx as FedProx
from dspex.federated.averaging import FedAvgM as FedAvgM
from dspex.federated.averaging import FedAdam as FedAdam
from dspex.federated.averaging import FedYogi as FedYogi
from dspex.federated.averaging import FedAdagrad as FedAdagrad
from dspex.federated.averaging import MedianWeights as MedianWeights
from dspex.federated.averaging import TrimmedWeights as TrimmedWeights
from dspex.federated.averaging import Krum as Krum
from dspex.federated.averaging import WeightedUpdate as WeightedUpdate
from dspex.federated.averaging import ServerState as ServerState
from dspex.federated.averaging import krum_scores as krum_scores

# Rules for choices.
from dspex.federated.choices import ChoiceRule as ChoiceRule
from dspex.federated.choices import PooledMean as PooledMean
from dspex.federated.choices import MeanOfMeans as MeanOfMeans
from dspex.federated.choices import MedianOfMeans as MedianOfMeans
from dspex.federated.choices import TrimmedMeans as TrimmedMeans
from dspex.federated.choices import MacroMean as MacroMean
from dspex.federated.choices import BordaCount as BordaCount
from dspex.federated.choices import PluralityVote as PluralityVote
from dspex.federated.choices import CandidateScore as CandidateScore
from dspex.federated.choices import Choice as Choice
from dspex.federated.choices import personal_choice as personal_choice

# What hides a client's numbers, or an example.
from dspex.federated.masks import MaskKey as MaskKey
from dspex.federated.masks import masked as masked
from dspex.federated.masks import quantised as quantised
from dspex.federated.masks import dequantised as dequantised
from dspex.federated.masks import SecureSum as SecureSum
from dspex.federated.masks import SecretShare as SecretShare
from dspex.federated.masks import shares_of as shares_of
from dspex.federated.masks import secret_of as secret_of
from dspex.federated.noise import NoisyScorer as NoisyScorer
from dspex.federated.noise import gaussian_sigma as gaussian_sigma
from dspex.federated.noise import server_noise as server_noise

# Events.
from dspex.federated.events import FederatedRoundClosed as FederatedRoundClosed
from dspex.federated.events import ClientMissing as ClientMissing

# Errors.
from dspex.federated.errors import BadFederation as BadFederation
from dspex.federated.errors import BadUpdate as BadUpdate
from dspex.federated.errors import CannotMerge as CannotMerge
from dspex.federated.errors import TooFewClients as TooFewClients
from dspex.federated.errors import StaleRound as StaleRound

# Learners that are there already.
from dspex.federated.learners import SoftmaxLearner as SoftmaxLearner
from dspex.federated.learners import MomentsLearner as MomentsLearner
from dspex.federated.learners import spread as spread
from dspex.federated.program_scorer import ProgramScorer as ProgramScorer
from dspex.federated.stacking import StackingLearner as StackingLearner
from dspex.federated.stacking import stacking_moments as stacking_moments
from dspex.federated.stacking import stacking_weights as stacking_weights
from dspex.federated.stacking import stacking_rule as stacking_rule
