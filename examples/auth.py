"""Authentication: who has no good token never becomes a client.

A before runs for every event. At ``connect`` the handshake has not been answered yet, so an abort
there is an HTTP answer, 401. Programs send ``Authorization: Bearer ...``; a browser cannot set
headers on a WebSocket, it sends the cookie that its login got. The token is never in the query:
queries end up in logs. Run it, then::

    boltws run examples.auth:bolt
    python -c 'from examples.auth import main; main("let-alice-in")'
"""

import hmac

from boltws import Bolt, Event

# A real one keeps these in a database, and only their hashes.
TOKENS = {"alice": "let-alice-in", "bob": "let-bob-in"}

# A cookie travels with the request of any page that opens a WebSocket here. Bolt refuses
# foreign origins before this code runs (`origins` allows more), and so the cookie can be trusted.
bolt = Bolt()
inbox = bolt.ws("/inbox")


@inbox.on_before
def authenticate(event: Event) -> None:
    if event.type != "connect":
        return  # it has been let in: event.state.user stands for as long as it is connected
    user = user_of(token_of(event))
    if user is None:
        event.abort(401, "who are you?", headers=[("WWW-Authenticate", "Bearer")])
    else:
        event.state.user = user


@inbox.on_connect
def welcome(event: Event) -> None:
    event.reply(f"Welcome, {event.state.user}!")


def token_of(event: Event) -> str:
    scheme, _, token = event.request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return event.request.cookies.get("session", "")


def user_of(token: str) -> str | None:
    """Whose token this is. How long that takes tells nothing about a good one."""
    found = None
    for user, good in TOKENS.items():
        if hmac.compare_digest(good.encode(), token.encode()):
            found = user
    return found


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
