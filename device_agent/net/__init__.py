"""Transport: name resolution, TCP and TLS connections, WebSocket, and one HTTPS POST.

Nothing in here knows a voice service. Every wait ends by a deadline, or by ``abort`` from any thread.
"""
