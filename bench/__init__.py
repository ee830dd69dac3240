"""How much server CPU a message costs on boltws and on its peers: `python -m bench`."""
