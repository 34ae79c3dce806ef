"""Voice services, one module each: a service knows where to connect and what it can do, a session is the protocol of
one connection. Neither touches a socket, a thread or a clock.
"""
