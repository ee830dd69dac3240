"""The same app with compression, for the suite's groups 12 and 13."""

from __future__ import annotations

from .app import serve_echo

compressed = serve_echo(compression=True)
