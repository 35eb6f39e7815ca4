"""`make agents`: programs of others that start, signal and watch keepalived, run with ours in its place and with it.

Each story is a program of its own, run by the Python that has the agents (requirements.txt), in a namespace for mounts
where /usr/sbin/keepalived is ours or Debian's. It prints what held as one line of JSON.
"""
