"""What a process lacks for a moment says nothing about what it was to look at."""

from __future__ import annotations

import errno

SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""No descriptor, or no memory."""
OF_SOCKETS = (*SHORTAGES, errno.ENOBUFS)
OF_PROCESSES = (*SHORTAGES, errno.EAGAIN)
