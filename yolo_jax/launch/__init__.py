"""Starts a run elsewhere, or in parts: a launcher submits, and makes or deletes no cluster."""
