"""What a program sees of the package's types: checked by `mypy`, never run."""

import dataclasses
from pathlib import Path
from typing import assert_type

import numpy as np

import lightxling
from lightxling.config.files import load
from lightxling.config.schema import Config
from lightxling.train import train

light = load("light")
assert_type(light, Config)
short = dataclasses.replace(light, train=dataclasses.replace(light.train, pairs=51_200))
assert_type(train(short, Path("runs/short")), dict[str, float] | None)

encoder = lightxling.Encoder.load("runs/short", checkpoint="last")
assert_type(encoder.using(), lightxling.Encoder)
assert_type(encoder.languages, tuple[str, ...])
vectors = encoder.encode(["Where is the station?", "Où est la gare ?"])
assert_type(vectors, np.ndarray)
assert_type(encoder.similarity(vectors[:1], vectors[1:]), np.ndarray)
