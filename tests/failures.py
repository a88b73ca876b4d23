"""What a part of the tests raises."""

from countersign.console.errors import CountersignError


class CheckFailed(CountersignError):
    """A check ran and found something."""

    exit_code = 1
