"""What the log says of an advert that was accepted: each remark once for each sender, until there is a new master."""

from __future__ import annotations

import logging

from keepalived_py import log
from keepalived_py.vrrp.packet import Advertisement, Datagram

from .instance import Instance

logger = logging.getLogger(__name__)


def remark(instance: Instance, datagram: Datagram, advert: Advertisement, stranger: str) -> None:
    """`stranger` says what another cluster on our VRID is to us, "" for a router of ours."""
    source = datagram.source

    def tell(level: int, kind: str, text: str, *words: object) -> None:
        logger.log(level, f"(%s) {text}", instance.name, *words, extra={log.CROWD: (instance.name, kind)})

    if stranger:
        tell(logging.WARNING, "stranger", "%s", stranger)
    elif advert.differs and instance.once(("list", source, advert.differs)):
        tell(logging.WARNING, "list", "address list of %s differs: %s", source, advert.differs)
    if advert.interval_differs and instance.once(("interval", source, advert.adver_int)):
        theirs, ours = advert.adver_int / 100, instance.config.advert_int / 100
        tell(logging.INFO, "interval", "advert interval of %s is %gs, ours %gs", source, theirs, ours)
    if advert.remark and instance.once(("remark", source, advert.remark)):
        tell(logging.INFO, "remark", "advert from %s: %s", source, advert.remark)
    if advert.bare_checksum and instance.once(("checksum", source)):
        tell(logging.INFO, "checksum", "%s leaves the pseudo header out of its checksum", source)
    if instance.reported and instance.router.master_source != source:
        instance.reported = {what for what in instance.reported if isinstance(what, tuple) and source in what}
