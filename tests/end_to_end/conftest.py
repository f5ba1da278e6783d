import logging

import pytest


@pytest.fixture(autouse=True)
def _logger_as_it_was():
    """The command line sets up the package's logger, which must not reach other tests."""
    log = logging.getLogger("intarsia")
    level, handlers = log.level, list(log.handlers)
    yield
    log.setLevel(level)
    log.handlers[:] = handlers
