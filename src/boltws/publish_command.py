"""The command ``boltws publish``: one message to the clients of a running app."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from .backplane.settings import URL_VARIABLE
from .backplane.subjects import DEFAULT_PREFIX
from .errors import BackplaneError

if TYPE_CHECKING:
    from .backplane.sync_publisher import SyncPublisher

STDIN = "-"


def add_publish(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command to the parser of ``boltws``."""
    parser = commands.add_parser(
        "publish", help="send a message to the clients of an app that runs on a backplane"
    )
    parser.add_argument(
        "--backplane",
        metavar="URL",
        help=f"the app's NATS servers; default: {URL_VARIABLE}, "
        "which keeps a secret out of the list of processes",
    )
    parser.add_argument("--prefix", default=DEFAULT_PREFIX, help="default: %(default)s")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--room", help="to the members of a room")
    target.add_argument("--all", action="store_true", help="to all clients")
    target.add_argument("--to", metavar="ID", help="to one client")
    target.add_argument(
        "--close", metavar="ID", help="close one client; MESSAGE, if any, is the reason"
    )
    parser.add_argument(
        "--binary", action="store_true", help="a binary message: base64, or any bytes from stdin"
    )
    parser.add_argument(
        "message",
        nargs="?",
        metavar="MESSAGE",
        help='missing or "-": read from stdin, without the end of its last line',
    )


def publish(arguments: argparse.Namespace) -> None:
    """Publish, and return when the NATS server has it. Raises ``SystemExit`` with one line when it
    does not."""
    from .backplane.sync_publisher import SyncPublisher

    try:
        if arguments.close is not None and arguments.binary:
            raise ValueError("--close takes no --binary")
        publisher = SyncPublisher(arguments.backplane, prefix=arguments.prefix)
        if arguments.close is not None:
            message: str | bytes = arguments.message or ""
        else:
            message = _message(arguments.message, arguments.binary)
        with publisher:
            _send(publisher, arguments, message)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except (BackplaneError, ValueError) as error:  # ConfigurationError is a ValueError
        raise SystemExit(f"boltws: {error}") from None


def _message(given: str | None, binary: bool) -> str | bytes:
    if given not in (None, STDIN):
        assert given is not None
        return given
    if sys.stdin is None:  # closed by whoever started us
        raise ValueError("there is no message, and no stdin to read one from")
    data = sys.stdin.buffer.read()
    if binary:
        return data
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError("what stdin gives is not UTF-8; send it with --binary") from None


def _send(publisher: SyncPublisher, arguments: argparse.Namespace, message: Any) -> None:
    binary: bool = arguments.binary
    if arguments.room is not None:
        (publisher.room_broadcast_binary if binary else publisher.room_broadcast)(
            arguments.room, message
        )
    elif arguments.to is not None:
        (publisher.send_binary_to if binary else publisher.send_to)(arguments.to, message)
    elif arguments.close is not None:
        publisher.close_client(arguments.close, reason=message)
    else:
        (publisher.broadcast_binary if binary else publisher.broadcast)(message)
