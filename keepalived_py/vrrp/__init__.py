"""The VRRP protocol (RFC 9568, 5798, 3768, 2338) as pure code: an event and the time go in, effects come out."""
