"""deploy/ and docs/metrics.md: they name what is really exported, and promtool finds them right."""

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
from client.commands.exporter import Exporter
from client.config.composition import open_environment
from client.config.settings import TABLE, from_environ
from client.records.record_index import RecordIndex
from lifecycle.states import State

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OURS = re.compile(r"\bholdfast_[a-z_]+")
SELECTOR = re.compile(r"\b(holdfast_[a-z_]+)\{([^}]*)\}")
LABEL = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
OF_A_SCRAPE = {"instance", "job", "le"}


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if not found:
        if os.environ.get("CI"):
            pytest.fail("promtool is not installed, and CI must not skip what needs it")
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
    """The type of each metric, as scraped."""
    text = generate_latest(registry).decode()  # type: ignore[arg-type]
    return dict(re.findall(r"^# TYPE (holdfast_\w+) (\w+)$", text, re.MULTILINE))


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """What a worker and an exporter really show."""
    env = open_environment(from_environ({"HOLDFAST_HOME": str(tmp_path_factory.mktemp("home"))}, None))
    with RecordIndex(env, None) as index:
        exporter = Exporter(env, index, every=env.limits.lease)
        yield exported(Metrics(ManualClock(), "n").registry), exported(exporter.registry)
        assert exporter.wait(10)


def test_promtool_finds_the_rules_right(promtool: str) -> None:
    """Their syntax, what they do on made-up series, and the example that loads them."""
    assert f"{len(queries_of_rules())} rules found" in run(promtool, "check", "rules", "alerts.yml")
    assert "SUCCESS" in run(promtool, "test", "rules", "alerts.test.yml")
    run(promtool, "check", "config", "prometheus.yml")


def test_promtool_understands_every_query_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    """As rules, with Grafana's variables filled in."""
    queries = [query.replace("$__rate_interval", "5m") for query in queries_of_dashboard()]
    rules = [{"record": f"q{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(queries)} rules found" in run(promtool, "check", "rules", "queries.yml", at=tmp_path)


def test_what_is_shown_is_what_the_tables_say(registries: tuple[dict[str, str], dict[str, str]]) -> None:
    """By name and type, no more and no less."""
    for shown, table in zip(registries, (WORKER, EXPORTER), strict=True):
        assert shown == {measure.name: measure.kind for measure in table}


@pytest.mark.parametrize("query", [*queries_of_rules(), *queries_of_dashboard()])
def test_a_query_names_what_is_exported(query: str) -> None:
    """Metrics, their labels, and states that there are."""
    known = {measure.name: set(measure.labels) for measure in (*WORKER, *EXPORTER)}
    for measure in (*WORKER, *EXPORTER):
        if measure.kind == "histogram":
            known |= {f"{measure.name}_{part}": set() for part in ("bucket", "sum", "count")}
    assert OURS.findall(query) or "up{" in query
    for name in OURS.findall(query):
        assert name in known
    for name, selector in SELECTOR.findall(query):
        for label, value in LABEL.findall(selector):
            assert label in known[name] | OF_A_SCRAPE, (name, label)
            if label == "state":
                assert set(value.split("|")) <= {*State, "unknown"}


def test_the_dashboard_shows_every_metric() -> None:
    """One that is not shown is one that nobody looks at."""
    shown = {re.sub(r"_bucket$", "", name) for query in queries_of_dashboard() for name in OURS.findall(query)}
    assert {measure.name for measure in (*WORKER, *EXPORTER)} - shown == set()


def rows(measures: tuple[MetricDefinition, ...]) -> Iterator[str]:
    for one in measures:
        yield f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.meaning} |"


def test_the_docs_list_every_metric() -> None:
    """As the tables have them, in their order."""
    of_worker, _, of_exporter = (ROOT / "docs" / "metrics.md").read_text().partition("## Exporter metrics")
    for text, table in ((of_worker, WORKER), (of_exporter, EXPORTER)):
        assert [line for line in text.splitlines() if line.startswith("| `")] == list(rows(table))


def test_the_docs_list_every_setting() -> None:
    """docs/operations.md has a row for each, with its default."""
    text = (ROOT / "docs" / "operations.md").read_text()
    for row in TABLE:
        default = f"`{row.default}`" if row.default else ""
        assert f"| `{row.name}` | {default} | " in text, row.name
