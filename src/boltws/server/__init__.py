"""Our own WebSocket server: a protocol that plugs into uvicorn, and what runs it."""
