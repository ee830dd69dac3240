"""boltws with its defaults: no option is set."""

import sys

from boltws import Bolt, Event

from . import HOST, burst

bolt = Bolt()
echo = bolt.ws("/echo")
room = bolt.ws("/room")
control = bolt.ws("/control")


@echo.on_message
def said(event: Event) -> None:
    event.reply(event.message)


@room.on_connect
def joined(event: Event) -> None:
    bolt.ws_room_join("room", event.client_id)


@control.on_message
def go(event: Event) -> None:
    for text in burst(event.message):
        bolt.ws_room_broadcast("room", text)


if __name__ == "__main__":
    bolt.run(host=HOST, port=int(sys.argv[1]), log_level="warning", access_log=False)
