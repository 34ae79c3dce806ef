"""What survives a restart: the state file, alarms and timers, connected minutes, the id of this speaker."""
