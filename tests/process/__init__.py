"""What only a process of its own can show: start, errors on stderr, signals, exit codes."""
