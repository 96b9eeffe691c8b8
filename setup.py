"""Packages of the wheel: the folders at the root, installed below `mouthpiece`. The rest: pyproject.toml."""

from setuptools import find_packages, setup

ROOMS = ("engine", "face", "lipsync", "voice", "training", "evaluation", "configs")
PACKAGES = {"mouthpiece": "mouthpiece"} | {f"mouthpiece.{room}": room for room in ROOMS}
FOUND = {name: [name, *(f"{name}.{inner}" for inner in find_packages(folder))] for name, folder in PACKAGES.items()}

setup(package_dir=PACKAGES, packages=[package for found in FOUND.values() for package in found])
