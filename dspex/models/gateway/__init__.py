"""The gateway: one place for all language models, their limits, their budgets, and what happens when one fails."""

# The actor, and what asks it.
from dspex.models.gateway.actor import Configure as Configure
from dspex.models.gateway.actor import DescribeModels as DescribeModels
from dspex.models.gateway.actor import Gateway as Gateway
from dspex.models.gateway.client import gateway_lm as gateway_lm
from dspex.models.gateway.endpoint import BudgetSpent as BudgetSpent

# What it tells.
from dspex.models.gateway.endpoint import FellBack as FellBack
from dspex.models.gateway.settings import BadGateway as BadGateway

# What it is told.
from dspex.models.gateway.settings import Endpoint as Endpoint
from dspex.models.gateway.settings import Model as Model
from dspex.models.gateway.settings import Price as Price
from dspex.models.gateway.settings import UsageBudget as UsageBudget
