"""Coverage-guided fuzzing of everything that reads a configuration."""
