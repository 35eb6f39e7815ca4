"""The urls of one HTTP_GET or SSL_GET: steps of its rounds, and what failures of them are called."""

from __future__ import annotations

from dataclasses import replace

from keepalived_py.checks.rounds import RoundsState
from keepalived_py.checks.state import CheckerState
from keepalived_py.config.model import Check, HttpCheck

from .probe import Result


def naming_url(config: Check, step: int, result: Result) -> Result:
    """Of several urls a failure names the one, be it that not even its connection came about."""
    if result.success or not isinstance(config, HttpCheck):
        return result
    about = f"{config.urls[step].path}: "
    return result if result.failure.startswith(about) else replace(result, failure=about + result.failure)


def standing(config: Check, state: CheckerState) -> str:
    """Which of several urls is looked at; "" for other checks."""
    if not isinstance(config, HttpCheck) or not isinstance(state, RoundsState) or state.steps == 1:
        return ""
    return f", {'failed' if state.broken else 'next'} url: {config.urls[state.step].path}"
