"""Progress of a job in a thread, sent to the client that started it.

Every ``ws_*`` operation may be called from any thread: it runs on the event loop and hands back its
result. ``ws_send_to`` says False when the client is gone, and so the job knows when to give up. ::

    boltws run examples.progress:bolt
    websockets ws://localhost:3000/jobs         and type: start
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from boltws import Bolt, Event, NotRunning

STEPS = 20

bolt = Bolt()
jobs = bolt.ws("/jobs")
workers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="job")
busy: set[str] = set()  # the clients whose job is under way


@jobs.on_message
def asked(event: Event) -> None:
    if event.message != "start":
        tell(event.client_id, error='send "start"')
    elif event.client_id in busy:
        tell(event.client_id, error="your job is still running")
    else:
        busy.add(event.client_id)
        workers.submit(work, event.client_id)


def work(client_id: str) -> None:
    """The job: it knows its client by id alone, and runs nowhere near the event loop."""
    try:
        for step in range(1, STEPS + 1):
            time.sleep(0.1)
            if not tell(client_id, done=step, of=STEPS):
                return
    finally:
        busy.discard(client_id)
    tell(client_id, finished=True)  # only now: who hears it may start the next one at once


def tell(client_id: str, **message: Any) -> bool:
    try:
        return bolt.ws_send_to(client_id, json.dumps(message))
    except NotRunning:  # the server has stopped
        return False


if __name__ == "__main__":
    bolt.run(port=3000)
