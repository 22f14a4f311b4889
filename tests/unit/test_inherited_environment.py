"""The variables that a workload inherits."""

from pathlib import Path

import pytest

from adapters.process.inherited_environment import inherited_environment
from adapters.process.workloads_file import load
from client.config.settings import NAMES
from lifecycle.errors import ConfigError
from lifecycle.ports.runner import PassedVariables

NOTHING = PassedVariables()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_PROFILE", "x"),
        ("CLOUDFLARE_ACCOUNT", "x"),
        ("HF_TOKEN", "x"),
        ("WANDB_API_KEY", "x"),
        ("my_secret", "x"),
        ("PGPASSWORD", "x"),
        ("GITHUB_TOKEN_FILE", "x"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=x"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "authorization=x"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://me:x@collector"),
        ("HTTPS_PROXY", "http://me:x@proxy:3128"),
        ("https_proxy", "http://me@proxy"),
        ("DATABASE_URL", "postgres://me:a/b@c@host/db"),
        *((name, "x") for name in NAMES),
    ],
)
def test_what_may_be_a_secret_is_withheld(name: str, value: str) -> None:
    """Holdfast's own settings, secrets by name, and URLs with a user are withheld unless they are named."""
    variables = {name: value, "PATH": "/bin"}
    assert inherited_environment(variables, NOTHING, settings=NAMES) == {"PATH": "/bin"}
    assert inherited_environment(variables, PassedVariables((name,)), settings=NAMES) == variables
    strict = PassedVariables((name,), is_strict=True)
    assert inherited_environment(variables, strict, settings=NAMES) == {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PATH", "/usr/bin"),
        ("CUDA_VISIBLE_DEVICES", "0"),
        ("LD_LIBRARY_PATH", "/usr/lib"),
        ("HTTPS_PROXY", "http://proxy:3128"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector"),
        ("MAIL", "me@example.org"),
    ],
)
def test_everything_else_is_inherited(name: str, value: str) -> None:
    """What is surely no secret is inherited, unless a strict list leaves it out."""
    assert inherited_environment({name: value}, NOTHING, settings=NAMES) == {name: value}
    assert inherited_environment({name: value}, PassedVariables((), is_strict=True), settings=NAMES) == {}


def test_patterns_match_names_as_they_are_written() -> None:
    """`*` stands for any characters, and case counts."""
    variables = {"HF_TOKEN": "x", "hf_token": "y"}
    assert inherited_environment(variables, PassedVariables(("HF_*",)), settings=()) == {"HF_TOKEN": "x"}


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ('["HF_TOKEN", "WANDB_*"]', PassedVariables(("HF_TOKEN", "WANDB_*"))),
        ('{ only = ["PATH"] }', PassedVariables(("PATH",), is_strict=True)),
        ("[]", PassedVariables()),
    ],
)
def test_pass_environment_is_read(tmp_path: Path, text: str, passed: PassedVariables) -> None:
    """A list relaxes the filter, and a table with `only` replaces it."""
    file = tmp_path / "workloads.toml"
    file.write_text(f'[w]\ncommand = "true"\npass_environment = {text}\n')
    assert load(file)["w"].pass_environment == passed


@pytest.mark.parametrize("text", ['"HF_TOKEN"', "true", "[1]", '[""]', '["A=b"]', '{ all = ["A"] }', "{ only = 1 }"])
def test_an_invalid_pass_environment_is_refused(tmp_path: Path, text: str) -> None:
    """Any other form is an error that names the entry and the key."""
    file = tmp_path / "workloads.toml"
    file.write_text(f'[w]\ncommand = "true"\npass_environment = {text}\n')
    with pytest.raises(ConfigError, match=r"\[w\] pass_environment: is neither a list"):
        load(file)
