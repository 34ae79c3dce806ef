"""config.yaml: its model, rules between keys, loading, watching for edits, and where credentials come from."""
