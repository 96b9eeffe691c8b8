"""When somebody speaks or sings: the engine's detector, under the name this room knows it by."""

from engine.activity import speech_activity

__all__ = ["speech_activity"]
