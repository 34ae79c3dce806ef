"""Arithmetic on samples: PCM, resampling, speech detection, echo cancellation. No device, and no thread of its own."""
