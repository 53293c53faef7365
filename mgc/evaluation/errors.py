"""The error of what is given to a run."""


class GivenError(ValueError):
    """An input, a model or images that are given to a run are wrong: the message says what, where and what to do."""
