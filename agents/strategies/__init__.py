"""Strategies: how the commands of an agent are run."""

from agents.strategies.direct import Direct as Direct
from agents.strategies.state_machine import Machine as Machine
from agents.strategies.state_machine import StateMachine as StateMachine
from agents.strategies.step_by_step import StepByStep as StepByStep
from agents.strategies.strategy import Strategy as Strategy
