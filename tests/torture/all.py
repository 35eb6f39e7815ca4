"""Every story, in the order in which they are told."""

from tests.torture import addresses, guest, links, meddling, processes, reloads, resources, soak
from tests.torture.story import STORIES

__all__ = ["STORIES", "addresses", "guest", "links", "meddling", "processes", "reloads", "resources", "soak"]
