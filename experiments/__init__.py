"""Experiment configs, the data that ships, and benchmarks."""
