"""Voices behind one interface; each file knows one model."""
