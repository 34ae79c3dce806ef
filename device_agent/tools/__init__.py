"""Tools: what the assistant may do on this device.

Tools run off the main thread. The ``ToolResult`` of a tool that fails, hangs or returns too much says so.
"""
