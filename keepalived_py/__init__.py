"""keepalived-py: VRRP failover and IPVS load balancing, configured by keepalived.conf."""

__version__ = "0.1.0"
