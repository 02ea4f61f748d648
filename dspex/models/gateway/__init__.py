"""The gateway: one place for all language models, their limits, their budgets, and what happens when one fails.

- `settings` says which endpoints and models there are; it knows nothing else of this package.
- `quota` is a sliding window; `budget` has one for each limit of an endpoint, and the file that keeps what was used.
- `endpoint` asks one endpoint, within its limits, with retries and a circuit breaker.
- `router` sends the requests of a model along its endpoints. It belongs to the runtime, so that requests go on while
  the actor restarts.
- `actor` changes the router; `client` is the ``dspy.LM`` whose requests the router answers.
"""

# The actor, and what asks it.
from dspex.models.gateway.actor import Gateway as Gateway
from dspex.models.gateway.client import gateway_lm as gateway_lm
from dspex.models.gateway.actor import Configure as Configure
from dspex.models.gateway.actor import DescribeModels as DescribeModels

# What it is told.
from dspex.models.gateway.settings import Endpoint as Endpoint
from dspex.models.gateway.settings import Model as Model
from dspex.models.gateway.settings import UsageBudget as UsageBudget
from dspex.models.gateway.settings import Price as Price
from dspex.models.gateway.settings import BadGateway as BadGateway

# What it tells.
from dspex.models.gateway.endpoint import FellBack as FellBack
from dspex.models.gateway.endpoint import BudgetSpent as BudgetSpent
