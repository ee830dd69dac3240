"""One node of the cluster scenarios: `python -m bench.node <port>`.

With BOLTWS_BACKPLANE in its environment it is one of many, without it is a process of its own.

/room      whoever says something here is a member, and is answered when that stands
/control   "go N": N messages go to the room in one turn of the loop, as on the other servers
/say       what is said there goes to the room
/turns     "M N": M turns of the loop, a millisecond apart, with N messages to the room in each;
           it answers when the last one is over
/rooms     "N": the client joins N rooms; it answers with the microseconds until they stand
/nats-py   "N": as many subscriptions of nats-py's own, with a callback each
"""

import asyncio
import os
import sys
import time

from boltws import Bolt, Event

from .peers import HOST, TEXTS, burst

NATS = "BENCH_NATS"  # where nats-py connects to in a process that is no node
DONE = "done"

bolt = Bolt()
kept = []  # for the life of the process


@bolt.ws("/room").on_message
async def join(event: Event) -> None:
    await bolt.cluster.room_join("room", event.client_id)
    event.reply(DONE)


@bolt.ws("/control").on_message
def go(event: Event) -> None:
    for text in burst(event.message):
        bolt.ws_room_broadcast("room", text)


@bolt.ws("/say").on_message
def said(event: Event) -> None:
    bolt.ws_room_broadcast("room", event.message)


@bolt.ws("/turns").on_message
def take_turns(event: Event) -> None:
    turns, messages = map(int, event.message.split())
    loop = asyncio.get_running_loop()

    def turn(left: int) -> None:
        if not left:
            bolt.ws_send_to(event.client_id, DONE)
            return
        for text in TEXTS[:messages]:
            bolt.ws_room_broadcast("room", text)
        loop.call_later(0.001, turn, left - 1)

    turn(turns)


@bolt.ws("/rooms").on_message
async def join_many(event: Event) -> None:
    start = time.perf_counter_ns()
    for i in range(int(event.message)):
        bolt.ws_room_join(f"room {i}", event.client_id)
    await bolt.cluster.room_join("the last", event.client_id)
    event.reply(f"{(time.perf_counter_ns() - start) // 1000}")


@bolt.ws("/nats-py").on_message
async def subscribe_many(event: Event) -> None:
    import nats

    async def heard(message: object) -> None:
        pass

    client = await nats.connect(os.environ[NATS])
    kept.append(client)
    start = time.perf_counter_ns()
    for i in range(int(event.message)):
        await client.subscribe(f"bench.*.room{i}", cb=heard)
    await client.flush()
    event.reply(f"{(time.perf_counter_ns() - start) // 1000}")


if __name__ == "__main__":
    bolt.run(host=HOST, port=int(sys.argv[1]), log_level="warning", access_log=False)
