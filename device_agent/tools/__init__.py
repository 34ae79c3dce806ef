"""Tools: what the assistant may do on this device.

A tool runs off the main thread, several at once. The assistant always gets an answer: the ``ToolResult`` of a tool that
fails, hangs or returns too much says so.
"""
