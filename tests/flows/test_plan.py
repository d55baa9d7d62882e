"""What a replay is to do survives on disk: a resumed run that read another mapping or year would give other results."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from flows.plan import PLAN_FILE, Input, Plan

FULL = Plan(
    inputs=(
        Input("a b/ü.jsonl", "/data/a b/ü.jsonl", "jsonl", 12),
        Input("-", "-", "csv", None),
        Input("t-0", "kafka://h:1/t/0", "jsonl", 9, 4),
    ),
    wall=1_742_976_000_000_001,
    rules=("/rules/mine.yaml",),
    builtin=False,
    workspace="acme",
    stream="log",
    mapping={"source": "$.service.name", "explode": "$.updates", "keep.id": "$.id"},
    year=2016,
    events=False,
    lateness=90_000_000,
    until=1_742_976_000_000_002,
    drain=True,
    shards=7,
    workers=3,
    epoch=0.25,
    kafka_config="/etc/kafka.properties",
    publish_every=None,
)


def test_everything_comes_back(tmp_path: Path) -> None:
    """Every field, none of them at its default, so that a new one cannot be forgotten."""
    plain = Plan(inputs=(), wall=0)
    assert [f.name for f in fields(Plan) if getattr(FULL, f.name) == getattr(plain, f.name)] == []
    FULL.write(tmp_path)
    assert Plan.read(tmp_path) == FULL
    plain.write(tmp_path)
    assert Plan.read(tmp_path) == plain


def test_it_can_be_read_by_people(tmp_path: Path) -> None:
    """It is the first thing to look at when a resumed run behaves oddly."""
    FULL.write(tmp_path)
    assert json.loads((tmp_path / PLAN_FILE).read_text())["year"] == 2016


def test_a_plan_of_an_earlier_version_has_defaults(tmp_path: Path) -> None:
    """An update of Tocsin between crash and resume: fields it does not know yet, or no longer."""
    FULL.write(tmp_path)
    body = json.loads((tmp_path / PLAN_FILE).read_text())
    del body["publish_every"]
    (tmp_path / PLAN_FILE).write_text(json.dumps(body | {"colour": "red"}))
    assert Plan.read(tmp_path).publish_every == Plan(inputs=(), wall=0).publish_every


def test_a_plan_is_replaced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run writes its plan anew; killed while it does, the next one would find half a plan."""
    Plan(inputs=(), wall=7).write(tmp_path)

    def killed(self: Path, text: str) -> None:
        with self.open("w") as half:
            half.write(text[:20])
        raise KeyboardInterrupt

    with monkeypatch.context() as power:
        power.setattr(Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            FULL.write(tmp_path)
    assert Plan.read(tmp_path).wall == 7
    FULL.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [PLAN_FILE]


def test_no_plan_is_no_file(tmp_path: Path) -> None:
    """The command line makes its sentence of this."""
    with pytest.raises(FileNotFoundError):
        Plan.read(tmp_path)
