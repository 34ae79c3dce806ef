"""Vocabulary and decisions: errors, events, actions, the conversation state machine, redaction of secrets."""
