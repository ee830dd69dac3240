"""Bolt beside FastAPI: endpoints under /live, and an HTTP route that talks to their clients.

It runs on boltws' own server and on uvicorn's alike, and needs FastAPI::

    pip install fastapi
    boltws run examples.fastapi_mount:app
    uvicorn examples.fastapi_mount:app --port 3000

    websockets ws://localhost:3000/live/prices/gold
    curl -X POST 'http://localhost:3000/prices/gold?price=2311.5'
"""

from fastapi import FastAPI

from boltws import Bolt, Event

bolt = Bolt()
prices = bolt.ws("/prices/{metal}").where("metal", "gold|silver")


@prices.on_connect
def watch(event: Event) -> None:
    event.join(event.params["metal"])


app = FastAPI(lifespan=bolt.lifespan)
app.mount("/live", bolt)


@app.post("/prices/{metal}")
async def publish(metal: str, price: float) -> dict[str, int]:
    """Tell everyone who watches; the answer says how many that were."""
    return {"told": bolt.ws_room_broadcast(metal, f"{metal} {price}")}
