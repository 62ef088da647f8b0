"""`python -m cepcli` is `cep`."""

from cepcli.cli.main import main

main()
