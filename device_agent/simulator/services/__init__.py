"""Simulated services, one module or a few for each."""
