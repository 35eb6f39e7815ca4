"""The processes that do things: VRRP (addresses, VMACs) and checker (IPVS). Forked by the parent."""
