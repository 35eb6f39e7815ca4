"""From configuration text to a finished model; the only code that opens configuration files."""
