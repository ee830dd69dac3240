"""Authentication: four ways to show a token. Who has no good one hears nothing.

=================== ============================== ==============================================
way                 endpoint                       for
=================== ============================== ==============================================
header, or cookie   ``/inbox``                     programs; pages of the site that set the cookie
subprotocol         ``/inbox/subprotocol``         pages of another site, which can set no header
first message       ``/inbox/first-message``       the same, where the token is no header's value
=================== ============================== ==============================================

A before runs for every event. At ``connect`` the handshake has not been answered yet, so an abort
there is an HTTP answer, 401: who it refuses never becomes a client. The token is never in the
query: queries end up in logs. Run it, then::

    boltws run examples.auth:bolt
    python -c 'from examples.auth import main; main("let-alice-in")'
"""

import asyncio
import hmac

from boltws import Bolt, Event

# A real one keeps these in a database, and only their hashes.
TOKENS = {"alice": "let-alice-in", "bob": "let-bob-in"}
PATIENCE = 10.0  # seconds until the first message must have come
LOGIN_FAILED = 4401  # a close code of this app's own: 4000 to 4999 are free for that

# A cookie travels with the request of any page that opens a WebSocket here. Bolt refuses
# foreign origins before this code runs (`origins` allows more), and so the cookie can be trusted.
bolt = Bolt(max_message_size=64 * 1024)


def user_of(token: str) -> str | None:
    """Whose token this is. How long that takes tells nothing about a good one."""
    found = None
    for user, good in TOKENS.items():
        # Every token is compared, also behind the right one.
        if hmac.compare_digest(good.encode(), token.encode()):
            found = user
    return found


def let_in(event: Event, token: str) -> None:
    """Refuse the handshake, or keep in the connection's state whose it is."""
    user = user_of(token)
    if user is None:
        event.abort(401, "who are you?", headers=[("WWW-Authenticate", "Bearer")])
    else:
        event.state.user = user


def welcome(event: Event) -> None:
    event.reply(f"Welcome, {event.state.user}!")


def said(event: Event) -> None:
    event.reply(f"{event.state.user}: {event.message}")


# A header, which programs can set, or the cookie that a browser got at its login.

inbox = bolt.ws("/inbox", welcome, said)


@inbox.on_before
def by_header_or_cookie(event: Event) -> None:
    if event.type != "connect":
        return  # it has been let in: event.state.user stands for as long as it is connected
    scheme, _, token = event.request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        let_in(event, token.strip())
    else:
        let_in(event, event.request.cookies.get("session", ""))


# A subprotocol, the one header that a page may choose:
#     new WebSocket(url, ["inbox.v1", "bearer." + token])
# The answer names inbox.v1 and never the token, as only that is in `subprotocols`.

chosen = bolt.ws("/inbox/subprotocol", welcome, said, subprotocols=["inbox.v1"])


@chosen.on_before
def by_subprotocol(event: Event) -> None:
    if event.type == "connect":
        offered = event.request.subprotocols
        tokens = [name[len("bearer.") :] for name in offered if name.startswith("bearer.")]
        let_in(event, tokens[0] if len(tokens) == 1 else "")


# The first message. Until it has come anybody may be connected: nothing is sent to such a client,
# it joins no room, and it has not long. (bolt.ws_broadcast would reach it: rooms do not.)

late = bolt.ws("/inbox/first-message", None, said)


@late.on_connect
def be_quick(event: Event) -> None:
    loop = asyncio.get_running_loop()
    event.state.deadline = loop.call_later(
        PATIENCE, bolt.ws_close_client, event.client_id, LOGIN_FAILED, "who are you?"
    )


@late.on_before
def by_first_message(event: Event) -> None:
    if event.type != "message" or "user" in event.state:
        return
    user = user_of(event.message)
    if user is None:
        event.close(LOGIN_FAILED, "who are you?")
    else:
        event.state.deadline.cancel()
        event.state.user = user
        welcome(event)
    event.abort()  # the token is nothing for the handler


@late.on_disconnect
def forget(event: Event) -> None:
    event.state.deadline.cancel()


def main(token: str) -> None:
    """A client: prints its welcome, or how it was refused."""
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    headers = {"Authorization": f"Bearer {token}"}
    try:
        with connect("ws://localhost:3000/inbox", additional_headers=headers) as inbox:
            print(inbox.recv())
    except InvalidStatus as refused:
        print(f"refused: {refused.response.status_code}")


if __name__ == "__main__":
    bolt.run(port=3000)
