"""Rules: what to match, how to group, when to open. Read from YAML, checked, frozen.

`docs/rules.md` describes every field. Times are microseconds here (`operators.durations`), text in the files.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Self, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from operators.durations import Duration
from operators.events import DEFAULT_STREAM
from operators.rule_errors import Problem, RuleError, suggest
from operators.rule_fields import (
    ANY_STREAM,
    Codes,
    Count,
    Filter,
    Flag,
    GroupBy,
    Level,
    Model,
    NumberField,
    Severity,
    Streams,
    Text,
    TextField,
    Texts,
)
from operators.rule_yaml import Document, Path, parse_yaml

MOST_BUCKETS = 10_000  # in the window of an anomaly


class Match(Model):
    """Which events: (type listed or code listed; all, where neither list is given) and `where` holds.

    Types compare exactly, codes without regard to case (held in lower case).
    """

    type: Texts | None = None
    code: Codes | None = None
    where: Filter | None = None


class EventCount(Model):
    """Opens at `gte` events within `window`."""

    gte: Count
    window: Duration


class ValueCount(Model):
    """Opens at `gte` distinct values of `field` within `window`; events without the field do not count."""

    field: TextField
    gte: Count
    window: Duration


class ValueSum(Model):
    """Opens when the numbers of `field` within `window` add up to `gte`."""

    field: NumberField = "value"
    gte: Level
    window: Duration


class ValueAvg(Model):
    """Opens when the mean of the numbers of `field` within `window` reaches `gte`, over at least `min_events`."""

    field: NumberField = "value"
    gte: Level
    window: Duration
    min_events: Count = 1


class ValuePercentile(Model):
    """Opens when the percentile (nearest rank) of the numbers of `field` within `window` reaches `gte`."""

    field: NumberField = "value"
    percentile: Annotated[float, Field(strict=True, gt=0, le=100)]
    gte: Level
    window: Duration
    min_events: Count = 1


class Ratio(Model):
    """Opens when the rule's matches within `window` are a share of `gte` or more of those that `of` matches.

    The volume, the rule's matches and what else `of` matches, must be `min_volume` or more.
    """

    of: Match = Match()
    gte: Annotated[float, Field(strict=True, gt=0, le=1)]
    min_volume: Count
    window: Duration


class Anomaly(Model):
    """Opens when the last `bucket` holds more events than the key's buckets before it, within `window`, let expect.

    level: the largest probability of so many that opens. min_history: complete buckets since the window's first event;
    min_events: in the last bucket.
    """

    bucket: Duration
    window: Duration
    level: Annotated[float, Field(strict=True, gt=0, le=0.5)] = 0.001
    min_history: Count = 24
    min_events: Count = 5

    @model_validator(mode="after")
    def _window_holds_the_history(self) -> Self:
        # The first event, which begins the history, is younger than the window; then history; then the last bucket.
        if self.window < (self.min_history + 2) * self.bucket:
            raise ValueError(f"window must be {self.min_history + 2} buckets or longer: min_history and two")
        if self.window > MOST_BUCKETS * self.bucket:
            raise ValueError(f"window must be at most {MOST_BUCKETS} buckets long")
        return self


ThresholdSpec = EventCount | ValueCount | ValueSum | ValueAvg | ValuePercentile | Ratio | Anomaly


class Threshold(Model):
    """Exactly one way to decide when a rule opens, named by its key in the file."""

    event_count: EventCount | None = None
    value_count: ValueCount | None = None
    value_sum: ValueSum | None = None
    value_avg: ValueAvg | None = None
    value_percentile: ValuePercentile | None = None
    ratio: Ratio | None = None
    anomaly: Anomaly | None = None

    @property
    def spec(self) -> ThresholdSpec:
        """Return the one that is given."""
        given: Iterable[ThresholdSpec | None] = (getattr(self, name) for name in type(self).model_fields)
        return next(spec for spec in given if spec is not None)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        names = tuple(type(self).model_fields)
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of {', '.join(names)}, got {' and '.join(given) or 'none'}")
        return self


class Lifecycle(Model):
    """The durations of S9 that differ from the workspace's; null: as in the workspace."""

    recovery: Duration | None = None
    close: Duration | None = None
    cooldown: Duration | None = None


class AlertThreshold(Model):
    """The incident opens silently; its alert fires when `count` of its events are within `window`."""

    count: Count
    window: Duration


class Rule(Model):
    """One rule, as `docs/rules.md` describes it."""

    id: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
    name: Text = ""
    description: Annotated[str, Field(strict=True)] | None = None
    stream: Streams = (DEFAULT_STREAM,)
    priority: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] | None = None
    exclusive: Flag = False
    match: Match
    group_by: GroupBy = ("source",)
    threshold: Threshold | None = None
    lifecycle: Lifecycle = Lifecycle()
    severity: Severity | None = None
    alert: AlertThreshold | None = None
    enabled: Flag = True

    @model_validator(mode="before")
    @classmethod
    def _named(cls, raw: Any) -> Any:
        return {"name": raw["id"], **raw} if isinstance(raw, Mapping) and "id" in raw else raw

    @model_validator(mode="after")
    def _priority_orders_exclusive_rules(self) -> Self:
        if self.exclusive and self.priority is None:
            raise ValueError("an exclusive rule needs a priority: exclusive rules are tried in its order, lower first")
        if not self.exclusive and self.priority is not None:
            raise ValueError("priority orders exclusive rules; add `exclusive: true`, or leave priority away")
        return self

    def shares_stream(self, other: "Rule") -> bool:
        """Tell whether one event could be tried by both rules."""
        return ANY_STREAM in (*self.stream, *other.stream) or bool(set(self.stream) & set(other.stream))


def in_order(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Return `rules` in the order they claim an event: exclusive by priority, then the others by id."""
    return tuple(sorted(rules, key=lambda rule: (not rule.exclusive, rule.priority or 0, rule.id)))


def load_rules(text: str, filename: str) -> tuple[Rule, ...]:
    """Return the rules of one file's YAML `text`. Raises RuleError with everything that is wrong in it."""
    return load_rule_texts([(filename, text)])


def load_rule_texts(files: Iterable[tuple[str, str]]) -> tuple[Rule, ...]:
    """Return the rules of several files, (name, YAML text) each, that are to work together; see `load_rules`."""
    rules: list[tuple[Rule, Document, Path]] = []
    problems: list[Problem] = []
    for filename, text in files:
        try:
            document = parse_yaml(text, filename)
            rules += _rules_of(document)
            problems += document.problems
        except RuleError as wrong:
            problems += wrong.problems
    problems += _conflicts(rules)
    if problems:
        raise RuleError(problems)
    return tuple(rule for rule, _, _ in rules)


def _rules_of(document: Document) -> list[tuple[Rule, Document, Path]]:
    """Return the rules of a file that are as they should be; what is wrong with the others goes to its problems."""
    value = document.value
    start: Path = ()
    if isinstance(value, dict):
        start = ("rules",)
        unknown = [key for key in value if key != "rules"]
        document.problems += [document.problem((key,), _unknown(key, ("rules",))) for key in unknown]
        value = value.get("rules")
    if not isinstance(value, list) or not value:
        if not document.problems:
            document.problems.append(document.problem(start, "expected `rules:` and a list of rules under it"))
        return []
    found: list[tuple[Rule, Document, Path]] = []
    for i, raw in enumerate(value):
        path = (*start, i)
        empty = list(_empty(raw, path))
        document.problems += [document.problem(at, "has no value; give it one or leave it away") for at in empty]
        try:
            found.append((Rule.model_validate(raw), document, path))
        except ValidationError as wrong:
            said = [document.problem(at, message) for at, message in explain(wrong, Rule, path) if at not in empty]
            document.problems += said
    return found


def _conflicts(rules: Sequence[tuple[Rule, Document, Path]]) -> Iterable[Problem]:
    """Yield what keeps rules from working together: the same id, or the same priority where one event meets both."""
    for i, (rule, document, path) in enumerate(rules):
        for other, elsewhere, its_path in rules[:i]:
            first = f"{elsewhere.filename}:{elsewhere.line(its_path)}"
            if rule.id == other.id:
                yield document.problem((*path, "id"), f'there is a rule "{rule.id}" already, at {first}')
            elif rule.exclusive and other.exclusive and rule.priority == other.priority and rule.shares_stream(other):
                said = f'priority {rule.priority} on the same stream is that of rule "{other.id}", at {first}'
                yield document.problem((*path, "priority"), said)


def explain(error: ValidationError, model: type[Model], start: Path = ()) -> Iterable[tuple[Path, str]]:
    """Yield (path from `start`, message in plain words) for each error found when `model` was read."""
    for e in error.errors():
        path = (*start, *e["loc"])
        match e["type"]:
            case "where":
                yield from (((*path, *inner), message) for inner, message in e["ctx"]["problems"])
            case "extra_forbidden":
                yield path, _unknown(str(e["loc"][-1]), _fields_at(model, e["loc"][:-1]))
            case "missing":
                yield path, "is missing"
            case "value_error":
                yield path, e["msg"].removeprefix("Value error, ")
            case "model_type" | "model_attributes_type" | "dict_type" | "mapping_type":
                yield path, f"expected fields with values, got {e['input']!r}"
            case _:
                yield path, f"{e['msg'].replace('Input should', 'should')}, got {e['input']!r}"


def _unknown(field: str, allowed: Sequence[str]) -> str:
    return f'unknown field "{field}"; {suggest(field, allowed)}'


def _fields_at(model: type[BaseModel], path: Path) -> tuple[str, ...]:
    """Return the names of the fields of the model that stands at `path` inside `model`."""
    for step in path:
        field = model.model_fields.get(str(step))
        choices = (field.annotation, *get_args(field.annotation)) if field else ()
        model = next((c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return tuple(model.model_fields)


def _empty(value: Any, path: Path) -> Iterable[Path]:
    """Yield the paths without a value. Only in `where` null says something: there it is a value to compare with."""
    if value is None:
        yield path
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _empty(inner, (*path, key)) if key != "where" or inner is None else ()
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _empty(inner, (*path, i))
