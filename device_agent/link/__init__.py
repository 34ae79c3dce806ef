"""The connection to a voice service over time: connect, carry turns and replies, renew, fail over, back off.

``policy`` decides without thread, socket or clock; ``manager`` is the thread that acts on it.
"""
