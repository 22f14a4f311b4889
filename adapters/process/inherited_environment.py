"""The variables of the worker's environment that a workload gets: none that may be a secret, unless it asks for it."""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final

from lifecycle.ports.runner import PassedVariables

CREDENTIAL_PREFIXES: Final = ("AWS_", "CLOUDFLARE_")  # AWS's own variables, and Holdfast's
SECRET_NAME: Final = re.compile(
    r"KEY|TOKEN|SECRET|PASSWORD|^OTEL_EXPORTER_OTLP_.*HEADERS$",  # a collector's headers hold its token
    re.IGNORECASE,
)
USER_IN_URL: Final = re.compile(r"://\S*@")  # text before an @ may be a password


def inherited_environment(
    variables: Mapping[str, str], passed: PassedVariables, *, settings: Iterable[str]
) -> dict[str, str]:
    """Return the variables that a workload inherits.

    Args:
        variables: The worker's environment variables.
        passed: The names that the workload asks for.
        settings: Names of Holdfast's own settings.
    """
    own = frozenset(settings)

    def is_passed(name: str, value: str) -> bool:
        if any(fnmatchcase(name, pattern) for pattern in passed.names):
            return True
        return not (passed.is_strict or name in own or _may_be_secret(name, value))

    return {name: value for name, value in variables.items() if is_passed(name, value)}


def _may_be_secret(name: str, value: str) -> bool:
    return bool(name.startswith(CREDENTIAL_PREFIXES) or SECRET_NAME.search(name) or USER_IN_URL.search(value))
