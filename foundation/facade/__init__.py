"""The facade: registry, coordination and infrastructure in one object, each behind a protocol with a version."""

from foundation.facade.foundation import Coordination as Coordination
from foundation.facade.foundation import Foundation as Foundation
from foundation.facade.foundation import Infrastructure as Infrastructure
from foundation.facade.foundation import Requirements as Requirements
from foundation.facade.protocols import CoordinationProtocol as CoordinationProtocol
from foundation.facade.protocols import IncompatibleProtocol as IncompatibleProtocol
from foundation.facade.protocols import InfrastructureProtocol as InfrastructureProtocol
from foundation.facade.protocols import RegistryProtocol as RegistryProtocol
