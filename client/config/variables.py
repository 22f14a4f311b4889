"""Environment variables. This module is the only one that reads them; all others get values.

Libraries read variables of their own: boto3 its AWS_… and proxy variables, the OpenTelemetry SDK its OTEL_… ones.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
CONFIG: Final = "HOLDFAST_CONFIG"
"""Names the settings file; `--config` sets it, so that child processes read the same file."""
REGIONS: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
"""AWS's own variables for the region, the first first."""

_ENVIRON: Final = os.environ


@frozen(kw_only=True)
class TraceVariables:
    """OpenTelemetry's variables that decide whether traces are sent.

    See https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.

    Attributes:
        endpoint: Name and value of the variable that names the collector; None if neither is set.
        protocol: Name and value of the variable that selects the protocol; None if neither is set.
        is_disabled: Traces are switched off.
    """

    endpoint: tuple[str, str] | None = None
    protocol: tuple[str, str] | None = None
    is_disabled: bool = False


@frozen(kw_only=True, repr=False)
class HostVariables:
    """Variables that are not settings of Holdfast: those of the host, the platform and OpenTelemetry.

    Attributes:
        everything: All variables, for the environments of child processes.
        config: HOLDFAST_CONFIG, the settings file that the user chose; empty if not set.
        aws_region: AWS_REGION, otherwise AWS_DEFAULT_REGION; empty if neither is set.
        xdg_cache_home: XDG_CACHE_HOME; empty if not set.
        xdg_config_home: XDG_CONFIG_HOME; empty if not set.
        salad_machine_id: SALAD_MACHINE_ID, set on SaladCloud; empty elsewhere.
        ca_bundle: REQUESTS_CA_BUNDLE, a file or folder of CA certificates; empty if not set.
        traces: OpenTelemetry's variables.
    """

    everything: Mapping[str, str]
    config: str = ""
    aws_region: str = ""
    xdg_cache_home: str = ""
    xdg_config_home: str = ""
    salad_machine_id: str = ""
    ca_bundle: str = ""
    traces: TraceVariables = TraceVariables()

    @property
    def cache_dir(self) -> Path:
        """The user's cache folder."""
        return Path(self.xdg_cache_home) if self.xdg_cache_home else Path.home() / ".cache"

    @property
    def config_dir(self) -> Path:
        """The user's folder of Holdfast's configuration."""
        return (Path(self.xdg_config_home) if self.xdg_config_home else Path.home() / ".config") / "holdfast"


def choose_config(file: Path) -> None:
    """Make *file* the settings file of this process and its children."""
    _ENVIRON[CONFIG] = str(file.absolute())


def process_variables() -> dict[str, str]:
    """Return a copy of this process's environment variables."""
    return dict(_ENVIRON)


def host_variables(variables: Mapping[str, str]) -> HostVariables:
    """Pick the variables that are not settings of Holdfast."""
    disabled = variables.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return HostVariables(
        everything=dict(variables),
        config=variables.get(CONFIG, ""),
        aws_region=next((variables[name] for name in REGIONS if variables.get(name)), ""),
        xdg_cache_home=variables.get("XDG_CACHE_HOME", ""),
        xdg_config_home=variables.get("XDG_CONFIG_HOME", ""),
        salad_machine_id=variables.get("SALAD_MACHINE_ID", ""),
        ca_bundle=variables.get("REQUESTS_CA_BUNDLE", ""),
        traces=TraceVariables(
            endpoint=_first_set(variables, ENDPOINTS),
            protocol=_first_set(variables, PROTOCOLS),
            is_disabled=disabled or variables.get("OTEL_TRACES_EXPORTER", "").lower() == "none",
        ),
    )


def _first_set(variables: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str] | None:
    return next(((name, variables[name]) for name in names if variables.get(name)), None)


def refuses_color() -> bool:
    """Return whether the user or the terminal wants no colours: NO_COLOR (https://no-color.org), or TERM is `dumb`."""
    return bool(_ENVIRON.get("NO_COLOR")) or _ENVIRON.get("TERM") == "dumb"


def refuse_color() -> None:
    """Let this process and its children write no colours."""
    _ENVIRON["NO_COLOR"] = "1"
