"""The server side without a socket: frames in, the wire, the sweeper, the handshake."""
