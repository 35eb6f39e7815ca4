"""Desired kernel tables and the operations that lead there from the actual ones. Pure."""
