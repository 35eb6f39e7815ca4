"""keepalivedctl: questions and orders to a running daemon, and tools for configuration files."""
