"""For all tests: servers that tests start heed signals, whatever pytest itself was told."""

from __future__ import annotations

import signal

# Under nohup, or in the background of a script, these are ignored, and children inherit that. A
# handler they do not inherit.
for name in ("SIGHUP", "SIGINT"):
    number = getattr(signal, name, None)  # Windows has no SIGHUP
    if number is not None and signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda number, frame: None)
