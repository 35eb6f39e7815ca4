"""The VRRP worker: sockets, timers, links, addresses, routes, rules, announcements."""
