"""``python -m boltws`` is the command ``boltws``."""

from .cli import main

main()
