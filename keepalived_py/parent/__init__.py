"""The parent process: starts, feeds, relays between and restarts the workers. Imports no worker."""
