"""What hostile, broken and overloaded peers do to our own server, over real sockets."""
