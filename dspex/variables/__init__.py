"""Variables: what of a program can be chosen, by an optimiser or by hand.

- `variable` has the kinds of variables; `space` puts several together, with what has to hold of all of them.
- `extraction` takes the space of a program from the program itself, by what `structure` finds in it.
- `coordinated` is a variable as an actor, which changes when its subscribers agree; `adaptation` has it learn.
"""

# Variables.
from dspex.variables.variable import Choice as Choice
from dspex.variables.variable import ModuleChoice as ModuleChoice
from dspex.variables.variable import Float as Float
from dspex.variables.variable import Integer as Integer
from dspex.variables.variable import Number as Number
from dspex.variables.variable import CompositeVariable as CompositeVariable
from dspex.variables.variable import Variable as Variable

# Spaces of variables, also taken from a program.
from dspex.variables.extraction import extract as extract
from dspex.variables.extraction import ProgramSpace as ProgramSpace
from dspex.variables.space import Space as Space
from dspex.variables.space import Constraint as Constraint
from dspex.variables.variable import Configuration as Configuration

# A variable that coordinates agents.
from dspex.variables.coordinated import CoordinatedVariable as CoordinatedVariable
from dspex.variables.coordinated import SubscribeToVariable as SubscribeToVariable
from dspex.variables.coordinated import UnsubscribeFromVariable as UnsubscribeFromVariable
from dspex.variables.coordinated import GetVariable as GetVariable
from dspex.variables.coordinated import ChangeVariable as ChangeVariable
from dspex.variables.coordinated import ProposeChange as ProposeChange
from dspex.variables.coordinated import SettleChange as SettleChange
from dspex.variables.coordinated import VersionedValue as VersionedValue
from dspex.variables.coordinated import VariableChanged as VariableChanged
from dspex.variables.coordinated import ChangeRefused as ChangeRefused

# A variable that learns.
from dspex.variables.coordinated import Feedback as Feedback
from dspex.variables.adaptation import Adaptation as Adaptation
from dspex.variables.adaptation import EpsilonGreedy as EpsilonGreedy
from dspex.variables.adaptation import UpperConfidenceBound as UpperConfidenceBound
from dspex.variables.adaptation import ThompsonSampling as ThompsonSampling
from dspex.variables.adaptation import Momentum as Momentum

# Errors.
from dspex.variables.variable import VariableError as VariableError
from dspex.variables.variable import BadVariable as BadVariable
from dspex.variables.variable import BadVariableValue as BadVariableValue
from dspex.variables.variable import BadConfiguration as BadConfiguration
