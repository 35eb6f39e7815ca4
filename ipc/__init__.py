"""Typed msgpack messages over Unix socket pairs: who may say what, and how it is framed."""
