"""Real-time WebSocket endpoints for Python: events, rooms, broadcast, and books that balance."""

from .app import Bolt
from .endpoint import Endpoint
from .errors import (
    AlreadyStarted,
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
    "Bolt",
    "BoltError",
    "ConfigurationError",
    "Endpoint",
    "Event",
    "NoEvent",
    "NotAborting",
    "NotRunning",
    "Request",
    "StartError",
    "State",
    "Stats",
    "__version__",
]
