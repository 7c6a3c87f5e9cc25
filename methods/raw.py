"""Reference row: the prepared coordinates themselves, without any network."""

from __future__ import annotations

from methods.random import Random


class Raw(Random):
    """Raw coordinates."""

    title = "Raw coordinates (reference)"
    encoder_name = "coordinates"
