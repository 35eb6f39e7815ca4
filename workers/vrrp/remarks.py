"""What the log says of an advert that was accepted: each remark once for each sender, until there is a new master."""

from __future__ import annotations

import logging

from keepalived_py.vrrp.packet import Advertisement, Datagram

from .instance import Instance

logger = logging.getLogger(__name__)


def remark(instance: Instance, datagram: Datagram, advert: Advertisement, stranger: str) -> None:
    """`stranger` says what another cluster on our VRID is to us, "" for a router of ours."""
    name, source = instance.name, datagram.source
    if stranger:
        logger.warning("(%s) %s", name, stranger)
    elif advert.differs and instance.once(("list", source, advert.differs)):
        logger.warning("(%s) address list of %s differs: %s", name, source, advert.differs)
    if advert.interval_differs and instance.once(("interval", source, advert.adver_int)):
        ours = instance.config.advert_int / 100
        logger.info("(%s) advert interval of %s is %gs, ours %gs", name, source, advert.adver_int / 100, ours)
    if advert.remark and instance.once(("remark", source, advert.remark)):
        logger.info("(%s) advert from %s: %s", name, source, advert.remark)
    if advert.bare_checksum and instance.once(("checksum", source)):
        logger.info("(%s) %s leaves the pseudo header out of its checksum", name, source)
    if instance.reported and instance.router.master_source != source:
        instance.reported = {what for what in instance.reported if isinstance(what, tuple) and source in what}
