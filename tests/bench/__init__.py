"""Measured side by side with Debian's keepalived, in turn in one run: `make bench [ONLY=name] [QUICK=1]`.

A bench is a function that takes a program and a size and gives figures by name. Ratios are what counts: ours divided by
keepalived's, below 1 is better. No figure is asserted anywhere.
"""
