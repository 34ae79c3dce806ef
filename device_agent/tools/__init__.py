"""What the assistant may do on this device. It is told of each tool as a ``Function`` and asks by ``ToolCall``.

A tool runs off the main thread, several at once. Whatever becomes of it, the assistant gets an answer: a tool that
fails, hangs or talks too much is a ``ToolResult`` that says so.
"""
