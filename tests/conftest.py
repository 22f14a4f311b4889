"""What all tests share."""

import sys
import threading
from collections.abc import Iterator

import pytest


@pytest.fixture
def _untraced() -> Iterator[None]:
    """Without coverage's tracing, which would take twice the time: for what is run thousands of times."""
    tracer, of_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type] # the stubs do not know that it may be taken away
    yield
    sys.settrace(tracer)
    threading.settrace(of_threads)  # type: ignore[arg-type]
