"""Presets and the manifest of weights; data, no code."""
