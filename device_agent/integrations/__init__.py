"""Integrations: the status of the device for Prometheus, and its control by an MQTT broker."""
