"""For every test: property tests are held by no clock, because machines are busy."""

from hypothesis import settings

settings.register_profile("countersign", deadline=None)
settings.load_profile("countersign")
