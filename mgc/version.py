"""The version of mgc, on its own: everything may import it."""

VERSION = "0.1.0"
