"""The store of a worker without a bucket, which uses only those that its messages name."""

from typing import Any, NoReturn

from lifecycle.errors import ConfigError


class NoBucket:
    """A store whose every call is an error."""

    def __getattr__(self, name: str) -> Any:
        """Return a method that raises `ConfigError`."""

        def refuse(*_: object, **__: object) -> NoReturn:
            raise ConfigError("BUCKET is not set, and the message names no bucket")

        return refuse
