"""Real-time WebSocket endpoints for Python: events, rooms, broadcast, and books that balance."""

from .app import Bolt
from .backplane.publisher import Publisher
from .backplane.sync_publisher import SyncPublisher
from .endpoint import Endpoint
from .errors import (
    AlreadyStarted,
    BackplaneError,
    BoltError,
    ConfigurationError,
    NoEvent,
    NotAborting,
    NotRunning,
    StartError,
)
from .event import Event, State
from .ledger import Stats
from .request import Request

__version__ = "0.1.0"

__all__ = [
    "AlreadyStarted",
    "BackplaneError",
    "Bolt",
    "BoltError",
    "ConfigurationError",
    "Endpoint",
    "Event",
    "NoEvent",
    "NotAborting",
    "NotRunning",
    "Publisher",
    "Request",
    "StartError",
    "State",
    "Stats",
    "SyncPublisher",
    "__version__",
]
