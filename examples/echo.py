"""Echo: what comes in goes back, text as text and binary as binary.

Run it, then talk to it::

    boltws run examples.echo:bolt
    websockets ws://localhost:3000/echo
"""

from boltws import Bolt, Event

bolt = Bolt()
echo = bolt.ws("/echo")


@echo.on_message
def said(event: Event) -> None:
    event.reply(event.binary if event.is_binary else event.message)


if __name__ == "__main__":
    bolt.run(port=3000)
