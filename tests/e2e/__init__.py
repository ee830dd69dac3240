"""The library as a client sees it: real sockets, on each kind of server that Bolt runs on."""
