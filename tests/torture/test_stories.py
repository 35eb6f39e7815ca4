"""The quick stories, told of ours; `make torture` tells all, beside Debian's keepalived."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.netns.rig import OURS, why_not
from tests.torture.all import STORIES
from tests.torture.story import Story

pytestmark = pytest.mark.netns
REASON = why_not() or ("" if shutil.which("keepalived") else "needs Debian's keepalived as the other router")
QUICK = [each for each in STORIES if each.quick and not each.guest]


@pytest.mark.parametrize("story", QUICK, ids=lambda each: each.name)
def test_what_must_hold_does(story: Story) -> None:
    if REASON:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(REASON)
    verdict = story.run(OURS)
    assert verdict.broken == []
