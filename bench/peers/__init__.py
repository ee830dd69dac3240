"""The servers that are measured: `python -m bench.peers.<name> <port>` runs one.

Each serves the same three paths, in one process, on uvloop, without an access log:

/echo      every text message goes back to its sender
/room      the members of one room, who say nothing
/control   "go N": N messages of 64 bytes go to the whole room, in one turn of the loop

Each is written as its own documentation advises, in the fastest of the ways we tried.
"""

HOST = "127.0.0.1"

# 64 bytes each, and all different: nobody gains from sending one object over and over.
TEXTS = [f"{i:064d}" for i in range(16)]


def burst(command: str) -> list[str]:
    """The messages that "go N" asks for."""
    return TEXTS[: int(command.removeprefix("go "))]
