"""The realtime services we can talk to, one file each.

A service knows where to connect and what it can do; its session speaks the protocol of one connection. Neither touches
a socket, a thread or a clock: messages come in as arguments and go out as return values, and time comes in by ``tick``.
"""
