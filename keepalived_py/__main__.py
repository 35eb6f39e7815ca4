"""`python -m keepalived_py` is `keepalived-py`."""

from .cli import console_main

console_main()
