"""The soak: a server under churn for minutes, whose memory, descriptors, tasks and books are
watched. ``make soak`` runs it."""
