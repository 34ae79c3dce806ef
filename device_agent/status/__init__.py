"""Status: the socket that shows the status of a running agent, and ``device-agent status``, which displays it."""
