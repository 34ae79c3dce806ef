"""State and rules of the simulated sessions, without sockets, threads or a clock."""
