"""The doctor: tries everything that the configuration names, and says for each thing what is wrong and what to do.

The steps are in files of their own: ``machine``, ``pins``, ``sound``, ``network``. Each yields what it finds, in a
thread of its own that is left behind if it hangs; ``sheet`` shows it.
"""
