"""The checker worker: probes real servers and keeps the IPVS table true."""
