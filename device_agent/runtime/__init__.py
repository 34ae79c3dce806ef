"""The process and its threads: workers, heartbeat, timers, signals, log, service manager, files and paths."""
