"""What the commands run, and `python -m keepalived_py`."""

import gc
import signal

gc.disable()  # it would look at every object again and again, and what is imported stays
# Programs signal a daemon as soon as there is a process, and it has no handlers yet (cli-and-signals.md 4).
EARLY = {signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGRTMAX - 1, signal.SIGRTMIN + 2}
signal.pthread_sigmask(signal.SIG_BLOCK, EARLY)
from .cli import console_main, main  # noqa: E402

gc.freeze()
gc.enable()

__all__ = ["main"]

if __name__ == "__main__":
    console_main()
