"""lightxling: small cross-lingual sentence encoders, trained from scratch from parallel text."""

__version__ = "0.1.0"
