"""Virtual addresses are taken away without a VRRP worker: it died, and no other one can be there in time."""

from __future__ import annotations

from keepalived_py.config.model import Config
from keepalived_py.plan.links import DeleteAddress

from .promotion import promoting
from .rtnetlink import AddressNotice, LinkNotice, RequestSocket, batches

OWNER = 255
SIZE = 1000
"""Messages in one batch."""


def withdraw(config: Config, names: frozenset[str]) -> int:
    """Delete what instances have put anywhere; how many addresses. An owner's are its own. Raises OSError."""
    rows = {
        (row.address, row.prefixlen): row
        for instance in config.vrrp.instances
        if instance.name in names and instance.priority != OWNER
        for row in (*instance.addresses, *instance.excluded)
    }
    requests = RequestSocket()
    try:
        notices = list(requests.dump())
        addresses = {notice.key: notice.secondary for notice in notices if isinstance(notice, AddressNotice)}
        secondary = {key for key, is_secondary in addresses.items() if is_secondary}
        links = {notice.link.index: notice.link for notice in notices if isinstance(notice, LinkNotice)}
        placed = {key: rows.get((key.address, key.prefixlen)) for key in addresses}
        left = [DeleteAddress(key, row) for key, row in placed.items() if row is not None]
        with promoting(left, {op.key for op in left}, addresses, secondary, links):
            for batch in batches(left, SIZE):
                for error in requests.submit(batch):
                    raise OSError(error.code, str(error))
    finally:
        requests.close()
    return len(left)
