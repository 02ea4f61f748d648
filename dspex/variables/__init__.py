"""Variables: what of a program can be chosen, by an optimiser or by hand."""

# Variables.
from dspex.variables.adaptation import Adaptation as Adaptation
from dspex.variables.adaptation import EpsilonGreedy as EpsilonGreedy
from dspex.variables.adaptation import Momentum as Momentum
from dspex.variables.adaptation import ThompsonSampling as ThompsonSampling
from dspex.variables.adaptation import UpperConfidenceBound as UpperConfidenceBound
from dspex.variables.coordinated import ChangeRefused as ChangeRefused
from dspex.variables.coordinated import ChangeVariable as ChangeVariable

# A variable that coordinates agents.
from dspex.variables.coordinated import CoordinatedVariable as CoordinatedVariable

# A variable that learns.
from dspex.variables.coordinated import Feedback as Feedback
from dspex.variables.coordinated import GetVariable as GetVariable
from dspex.variables.coordinated import ProposeChange as ProposeChange
from dspex.variables.coordinated import SettleChange as SettleChange
from dspex.variables.coordinated import SubscribeToVariable as SubscribeToVariable
from dspex.variables.coordinated import UnsubscribeFromVariable as UnsubscribeFromVariable
from dspex.variables.coordinated import VariableChanged as VariableChanged
from dspex.variables.coordinated import VersionedValue as VersionedValue
from dspex.variables.extraction import ProgramSpace as ProgramSpace

# Spaces of variables, also taken from a program.
from dspex.variables.extraction import extract as extract
from dspex.variables.space import Constraint as Constraint
from dspex.variables.space import Space as Space
from dspex.variables.variable import BadConfiguration as BadConfiguration
from dspex.variables.variable import BadVariable as BadVariable
from dspex.variables.variable import BadVariableValue as BadVariableValue
from dspex.variables.variable import Choice as Choice
from dspex.variables.variable import CompositeVariable as CompositeVariable
from dspex.variables.variable import Configuration as Configuration
from dspex.variables.variable import Float as Float
from dspex.variables.variable import Integer as Integer
from dspex.variables.variable import ModuleChoice as ModuleChoice
from dspex.variables.variable import Number as Number
from dspex.variables.variable import Variable as Variable

# Errors.
from dspex.variables.variable import VariableError as VariableError
