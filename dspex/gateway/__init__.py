"""The gateway: one place for all language models, their limits, their budgets, and what happens when one fails."""

from dspex.gateway.actor import Configure as Configure
from dspex.gateway.actor import DescribeModels as DescribeModels
from dspex.gateway.actor import Gateway as Gateway
from dspex.gateway.events import BudgetSpent as BudgetSpent
from dspex.gateway.events import FellBack as FellBack
from dspex.gateway.model import gateway_lm as gateway_lm
from dspex.gateway.settings import BadGateway as BadGateway
from dspex.gateway.settings import Budget as Budget
from dspex.gateway.settings import Endpoint as Endpoint
from dspex.gateway.settings import Model as Model
from dspex.gateway.settings import Price as Price
