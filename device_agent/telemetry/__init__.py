"""Telemetry: observers that measure, count, log and record what the device does."""
