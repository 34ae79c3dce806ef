"""Doctor: tries everything that the configuration names, and says for each thing what is wrong and what to do.

The steps are in ``machine``, ``pins``, ``sound`` and ``network``. Each yields findings, in a thread of its own that is
left behind if it hangs; ``report`` shows them.
"""
