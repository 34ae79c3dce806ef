"""Normalised cross-correlation of two pieces of sound."""

from __future__ import annotations

import numpy as np


def likeness(part: bytes, whole: bytes) -> tuple[float, int]:
    """Return how well *part* fits into *whole* where it fits best (1 is the same sound at any level), and at which
    sample. Both have one rate."""
    a = np.frombuffer(part, np.int16).astype(np.float64)
    b = np.frombuffer(whole, np.int16).astype(np.float64)
    if not a.any() or not b.any() or len(a) > len(b):
        return 0.0, 0
    size = 1 << (len(a) + len(b)).bit_length()
    products = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)), size)[: len(b) - len(a) + 1]
    energy = np.concatenate(([0.0], np.cumsum(b * b)))
    power = (energy[len(a) :] - energy[: len(b) - len(a) + 1]) * np.dot(a, a)
    fit = np.divide(products, np.sqrt(power), out=np.zeros_like(products), where=power > np.dot(a, a))
    at = int(np.argmax(fit))
    return float(fit[at]), at
