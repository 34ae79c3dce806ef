"""The agent beside what one would use instead: the same card, the same service, the same work, measured from outside.

``yard`` puts a client between ``card`` and ``service``, ``usage`` is what it takes of the machine, ``figures`` what a
bench writes of all that, ``peers`` the others.
"""
