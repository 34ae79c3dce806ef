"""Commands: ``ask``, ``demo``, ``key`` and ``token`` of the command line."""
