"""What the commands run, and `python -m keepalived_py`."""

import gc

gc.disable()  # it would look at every object again and again, and what is imported stays
from .cli import console_main, main  # noqa: E402

gc.freeze()
gc.enable()

__all__ = ["main"]

if __name__ == "__main__":
    console_main()
