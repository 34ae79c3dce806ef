"""The application: main loop, execution of actions, composition root, reconfiguration and daemon."""
