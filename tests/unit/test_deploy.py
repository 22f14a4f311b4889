"""deploy/ and docs/metrics.md agree with the exported metrics, and promtool accepts the rules."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.registry import Collector

from adapters.memory.clock import ManualClock
from adapters.telemetry.metric_definitions import EXPORTER, WORKER, MetricDefinition
from adapters.telemetry.metrics import Metrics
from client.config.composition import open_environment
from client.config.settings import TABLE, from_environ
from client.operations.exporter import Exporter
from client.records.record_index import RecordIndex
from lifecycle.states import State

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OURS = re.compile(r"\bholdfast_[a-z_]+")
SELECTOR = re.compile(r"\b(holdfast_[a-z_]+)\{([^}]*)\}")
LABEL = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
SCRAPE_LABELS = {"instance", "job", "le"}


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if not found:
        if os.environ.get("CI"):
            pytest.fail("promtool is not installed, and CI must not skip the tests that need it")
        pytest.skip("promtool is not installed")
    return found


def run(promtool: str, *words: str, at: Path = DEPLOY) -> str:
    done = subprocess.run([promtool, *words], cwd=at, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def queries_of_rules() -> list[str]:
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def queries_of_dashboard() -> list[str]:
    panels = json.loads((DEPLOY / "dashboard.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def exported(registry: Collector) -> dict[str, str]:
    """Return the type of each metric, as scraped."""
    text = generate_latest(registry).decode()
    return dict(re.findall(r"^# TYPE (holdfast_\w+) (\w+)$", text, re.MULTILINE))


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Return the exported metrics of a worker and of an exporter."""
    env = open_environment(from_environ({"HOLDFAST_HOME": str(tmp_path_factory.mktemp("home"))}, None))
    with RecordIndex(env, None) as index:
        exporter = Exporter(env, index, every=env.limits.lease)
        yield exported(Metrics(ManualClock(), "n").registry), exported(exporter.registry)
        assert exporter.wait(10)


def test_promtool_accepts_the_rules(promtool: str) -> None:
    """The rules are valid, fire as intended on made-up series, and are loaded by the example configuration."""
    assert f"{len(queries_of_rules())} rules found" in run(promtool, "check", "rules", "alerts.yml")
    assert "SUCCESS" in run(promtool, "test", "rules", "alerts.test.yml")
    run(promtool, "check", "config", "prometheus.yml")


def test_promtool_accepts_every_query_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    """Each query is valid as a rule, with Grafana's variables filled in."""
    queries = [query.replace("$__rate_interval", "5m") for query in queries_of_dashboard()]
    rules = [{"record": f"q{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(queries)} rules found" in run(promtool, "check", "rules", "queries.yml", at=tmp_path)


def test_the_exported_metrics_are_those_of_the_tables(registries: tuple[dict[str, str], dict[str, str]]) -> None:
    """The exported metrics have exactly the names and types in the tables."""
    for shown, table in zip(registries, (WORKER, EXPORTER), strict=True):
        assert shown == {metric.name: metric.kind for metric in table}


@pytest.mark.parametrize("query", [*queries_of_rules(), *queries_of_dashboard()])
def test_queries_use_exported_metrics(query: str) -> None:
    """Every metric, label and state in a query exists."""
    known = {metric.name: set(metric.labels) for metric in (*WORKER, *EXPORTER)}
    for metric in (*WORKER, *EXPORTER):
        if metric.kind == "histogram":
            known |= {f"{metric.name}_{part}": set() for part in ("bucket", "sum", "count")}
    assert OURS.findall(query) or "up{" in query
    for name in OURS.findall(query):
        assert name in known
    for name, selector in SELECTOR.findall(query):
        for label, value in LABEL.findall(selector):
            assert label in known[name] | SCRAPE_LABELS, (name, label)
            if label == "state":
                assert set(value.split("|")) <= {*State, "unknown"}


def test_the_dashboard_shows_every_metric() -> None:
    """Every metric appears in the dashboard."""
    shown = {re.sub(r"_bucket$", "", name) for query in queries_of_dashboard() for name in OURS.findall(query)}
    assert {metric.name for metric in (*WORKER, *EXPORTER)} - shown == set()


def rows(metrics: tuple[MetricDefinition, ...]) -> Iterator[str]:
    for one in metrics:
        yield f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.meaning} |"


def test_the_docs_list_every_metric() -> None:
    """docs/metrics.md has the rows of the tables, in the same order."""
    worker_text, _, exporter_text = (ROOT / "docs" / "metrics.md").read_text().partition("## Exporter metrics")
    for text, table in ((worker_text, WORKER), (exporter_text, EXPORTER)):
        assert [line for line in text.splitlines() if line.startswith("| `")] == list(rows(table))


def test_the_docs_list_every_setting() -> None:
    """docs/operations.md has a row for each, with its default."""
    text = (ROOT / "docs" / "operations.md").read_text()
    for row in TABLE:
        default = f"`{row.default}`" if row.default else ""
        assert f"| `{row.name}` | {default} | " in text, row.name
