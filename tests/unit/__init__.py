"""The tests of single modules: no sockets."""
