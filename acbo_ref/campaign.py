"""Campaigns: the policy proposes an experiment, a person does it and tells what came out, and so on.

    campaign = Campaign.create("reactor", {"temp": (20, 80), "dose": (0, 5), "age": None, "yield": None}, "yield",
                               direction="maximize", observations=table, budget=20)
    proposal = campaign.ask()
    campaign.tell(proposal.id, {"temp": 61.0, "dose": 2.2, "age": 40, "yield": 7.3})
    campaign.recommend()

Everything follows from the folder: `journal.jsonl` (journal.py), and `policy-HASH.npz`, a copy of the policy's weights. Each
command replays the journal, so killing a process anywhere changes nothing. Units are the user's; the sign of a target to be
maximised is flipped in `_Facts.cost` and nowhere else.

Missing values: the target and the variable that was set must be known. Any other missing value is replaced by the mean of the
variable over the observational rows (without any, the middle of its domain, or its mean over all rows), in what the policy
reads; the journal keeps it as missing.

Intervals: the outcome head's Gaussian ones, widened by a factor that makes them right on systems simulated from the policy's
own prior (split conformal prediction, Vovk et al. 2005; the factor is fixed at creation).
"""

from __future__ import annotations

import math
import operator
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from acbo_ref.backend import ReferenceBackend
from acbo_ref.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, shipped_policy
from acbo_ref.config import Config
from acbo_ref.curriculum import Curriculum
from acbo_ref.errors import AcboError, RunError, did_you_mean
from acbo_ref.history import Task
from acbo_ref.journal import Entry, Journal
from acbo_ref.randomness import Role, generator
from acbo_ref.rollout import Decision, Session, observe
from acbo_ref.scm import simulate
from acbo_ref.tables import check_names, number, observation_rows, read_csv, row_values, select

Array = NDArray[Any]
Domains = Mapping[str, tuple[float, float] | None]

SCHEMA = 1
COVERAGE = 0.9
QUANTILE = 1.6448536269514722  # of the standard normal: 90 % lie within
FEW_OBSERVATIONS = 3
# A set value may be measured a little off: this share of the domain's width.
SET_POINT_TOLERANCE = 0.05
DOMAIN_PERCENTILES = (1.0, 99.0)
# The policy reads at most so many rows, evenly spaced observations and the latest experiments: memory grows with their square.
OBSERVATIONS_READ, INTERVENTIONS_READ = 200, 300
CALIBRATION_SYSTEMS, CALIBRATION_STEPS, CALIBRATION_DRAWS = 64, 8, 64


class CampaignWarning(UserWarning):
    """Something the user should know; nothing was refused."""


def _warn(message: str) -> None:
    warnings.warn(message, CampaignWarning, stacklevel=3)


@dataclass(frozen=True)
class Proposal:
    """An experiment to do: set `variable` to `value`.

    Attributes:
        id: names it in `tell`.
        predicted, low, high: the target to be expected, and the 90 % interval of what will be measured, in its own units.
        parent_probability: that the variable is a direct cause of the target.
        reason: one line.
    """

    id: str
    variable: str
    value: float
    predicted: float
    low: float
    high: float
    parent_probability: float
    reason: str


@dataclass(frozen=True)
class Recommendation:
    """What to settle on now.

    Attributes:
        predicted, low, high: expectation of the target under this action and its 90 % interval.
        baseline: mean of the target over the observational rows: doing nothing. None without any.
        improvement, improvement_low, improvement_high: how much better than doing nothing, positive is better, 90 % interval.
        verdict: in words.
    """

    variable: str
    value: float
    predicted: float
    low: float
    high: float
    parent_probability: float
    baseline: float | None
    improvement: float | None
    improvement_low: float | None
    improvement_high: float | None
    verdict: str


@dataclass(frozen=True)
class Belief:
    """Of one variable: P(direct cause of the target), and for a manipulable one its best value and what that would give."""

    variable: str
    parent_probability: float
    value: float | None
    predicted: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class _Facts:
    """A journal, understood. `observations` and `interventions` hold rows as measured, nan where missing."""

    target: str
    direction: str
    variables: tuple[str, ...]
    domains: tuple[tuple[float, float] | None, ...]
    budget: int | None
    policy_sha256: str
    outcome_factor: float
    expectation_factor: float
    observations: Array  # (O, V)
    interventions: list[tuple[int, list[float]]]  # variable, row
    proposals: dict[str, Proposal]  # in order
    told: dict[str, list[float]]

    @property
    def cost(self) -> float:
        """The target times this is what the policy drives down."""
        return -1.0 if self.direction == "maximize" else 1.0

    @property
    def target_index(self) -> int:
        return self.variables.index(self.target)

    @property
    def pending(self) -> list[Proposal]:
        return [p for p in self.proposals.values() if p.id not in self.told]

    @property
    def remaining(self) -> int | None:
        """Proposals that the budget still allows."""
        return None if self.budget is None else self.budget - len(self.proposals)


class _Units:
    """A session whose target was handed over in other units: costs = location + scale * what the policy says."""

    def __init__(self, session: Session, location: float, scale: float) -> None:
        self._session, self._location, self._scale = session, location, scale

    def decide(self, **settings: Any) -> Decision:
        """As `rollout.Session.decide`, with outcomes as costs in the user's unit.

        Raises:
            AcboError: the numbers told are so far apart that nothing finite comes out.
        """
        decision = self._session.decide(**settings)
        numbers = (decision.value, decision.outcome_mean, decision.outcome_error, decision.outcome_std)
        if not all(np.isfinite(x).all() for x in numbers):
            raise AcboError(
                "the measurements are too far apart for a prediction", "a typing error in a row? see the journal"
            )
        return replace(
            decision,
            outcome_mean=self._location + self._scale * decision.outcome_mean,
            outcome_error=self._scale * decision.outcome_error,
            outcome_std=self._scale * decision.outcome_std,
        )


def _numbers(row: Sequence[Any]) -> list[float]:
    return [math.nan if value is None else float(value) for value in row]


def _plain(row: Sequence[float]) -> list[float | None]:
    """For JSON: None where missing."""
    return [None if math.isnan(value) else float(value) for value in row]


def _replay(entries: list[Entry], path: Path) -> _Facts:
    """What the entries say.

    Raises:
        AcboError: they make no sense.
    """
    try:
        first = entries[0]
        if first["kind"] != "created":
            raise ValueError("it does not begin with its creation")
        if first["schema"] != SCHEMA:
            raise AcboError(
                f"{path} has journal schema {first['schema']}, this version reads {SCHEMA}", "use a newer acbo"
            )
        variables = tuple(first["variables"])
        observations: list[list[float]] = []
        interventions: list[tuple[int, list[float]]] = []
        proposals: dict[str, Proposal] = {}
        told: dict[str, list[float]] = {}
        for entry in entries[1:]:
            kind = entry["kind"]
            if kind == "rows":
                for item in entry["rows"]:
                    row = _numbers(item["row"])
                    if item["variable"] is None:
                        observations.append(row)
                    else:
                        interventions.append((variables.index(item["variable"]), row))
            elif kind == "asked":
                proposal = Proposal(**entry["proposal"])
                proposals[proposal.id] = proposal
            elif kind == "told":
                row = told[entry["id"]] = _numbers(entry["row"])
                interventions.append((variables.index(proposals[entry["id"]].variable), row))
            else:
                raise ValueError(f"no entry is of kind {kind!r}")
        return _Facts(
            target=first["target"],
            direction=first["direction"],
            variables=variables,
            domains=tuple(None if d is None else (float(d[0]), float(d[1])) for d in first["domains"]),
            budget=first["budget"],
            policy_sha256=first["policy_sha256"],
            outcome_factor=float(first["outcome_factor"]),
            expectation_factor=float(first["expectation_factor"]),
            observations=np.array(observations, float).reshape(-1, len(variables)),
            interventions=interventions,
            proposals=proposals,
            told=told,
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise AcboError(f"{path}: not a campaign's journal ({error})", "restore it from a backup") from error


class Campaign:
    """A campaign in the folder `path`; see `create` and `load_campaign`."""

    def __init__(self, path: Path, checkpoint: Checkpoint) -> None:
        self.path, self._journal = path, Journal(path / "journal.jsonl")
        self._checkpoint = checkpoint
        self._backend = ReferenceBackend(replace(checkpoint.config, dtype=None))
        self._state = self._backend.from_host(checkpoint.state)

    # -------------------------------------------------------------------------------------------------- beginning

    @staticmethod
    def create(
        path: str | Path,
        variables: Domains,
        target: str,
        direction: str = "minimize",
        observations: Any = None,
        budget: int | None = None,
        policy: str | Path | None = None,
    ) -> Campaign:
        """Begin a campaign.

        Args:
            path: a folder that holds no campaign yet.
            variables: in order, the domain (low, high) of each variable that can be set, None for the target and the others.
            target, direction: what to "minimize" or "maximize".
            observations: rows measured without setting anything: a DataFrame, an array in the order of `variables`, or rows
                by name. Missing values are allowed, but for the target.
            budget: how many experiments may be proposed; None for no limit.
            policy: a checkpoint or run folder; default the one that ships.

        Raises:
            AcboError: something given is not possible; nothing was written.
        """
        path = Path(path)
        if (path / "journal.jsonl").exists():
            raise AcboError(f"{path} holds a campaign already", "choose another folder")
        names = list(variables)
        check_names(names, "the variables")
        if "intervention" in names:
            raise AcboError(
                "a variable cannot be named 'intervention'", "`import` needs a column of that name; rename it"
            )
        if target not in names:
            raise AcboError(f"the target {target!r} is no variable", did_you_mean(target, names))
        if direction not in ("minimize", "maximize"):
            raise AcboError(
                f"direction {direction!r} is not possible", did_you_mean(direction, ["minimize", "maximize"])
            )
        budget = _checked_budget(budget)
        domains = [_checked_domain(name, variables[name], name == target) for name in names]
        if not any(d is not None for d in domains):
            raise AcboError("no variable can be set", "give the domain (low, high) of at least one")
        rows = observation_rows(observations, names)
        _check_observations(np.array(rows, float).reshape(-1, len(names)), names, target)
        checkpoint = load_checkpoint(policy if policy is not None else shipped_policy())
        _check_reach(checkpoint.config, len(names), len(rows))
        factors = calibrate(checkpoint)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot create {path}: {error.strerror or error}", "choose another folder") from error
        sha256 = save_checkpoint(checkpoint, path / "policy.tmp.npz", moments=False)
        os.replace(path / "policy.tmp.npz", path / _policy_name(sha256))
        created: Entry = {
            "kind": "created", "schema": SCHEMA, "target": target, "direction": direction, "variables": names,
            "domains": [None if d is None else list(d) for d in domains], "budget": budget, "policy_sha256": sha256,
            "outcome_factor": factors[0], "expectation_factor": factors[1],
        }  # fmt: skip
        given: Entry = {"kind": "rows", "rows": [{"variable": None, "row": _plain(row)} for row in rows]}
        Journal.create(path / "journal.jsonl", [created, given] if rows else [created])
        return load_campaign(path)

    # ------------------------------------------------------------------------------------------------- the commands

    def ask(self, another: bool = False) -> Proposal:
        """The pending proposal, or a new one; with `another` a new one besides those pending, about another variable.

        Raises:
            AcboError: the budget is spent, or every variable has a pending proposal.
        """
        found: list[Proposal] = []

        def decide(entries: list[Entry]) -> Entry | None:
            facts = self._facts(entries)
            if facts.pending and not another:
                found.append(facts.pending[0])
                return None
            if facts.remaining is not None and facts.remaining <= 0:
                raise AcboError(
                    f"the budget of {facts.budget} experiments is spent",
                    "`recommend` says what to settle on; tell_external records further experiments",
                )
            found.append(self._propose(facts))
            return {"kind": "asked", "proposal": asdict(found[0])}

        self._journal.update(decide)
        return found[0]

    def tell(self, id: str, row: Any) -> None:
        """Record the measured row of a proposed experiment: all variables, by name or in order.

        The variable that was set may be left out, or be measured a little off its set point (5 % of the domain).

        Raises:
            AcboError: no such proposal, told already, or an impossible row. The proposal then stays open.
        """

        def decide(entries: list[Entry]) -> Entry:
            facts = self._facts(entries)
            if id not in facts.proposals:
                hint = "pending: " + (", ".join(p.id for p in facts.pending) or "none; `ask` for one")
                raise AcboError(f"no proposal {id!r}", hint)
            if id in facts.told:
                raise AcboError(f"proposal {id!r} was told already", "tell_external records a repetition")
            proposal = facts.proposals[id]
            measured = _checked_row(facts, row_values(row, facts.variables), proposal.variable, proposal.value)
            return {"kind": "told", "id": id, "row": _plain(measured)}

        self._journal.update(decide)

    def tell_external(self, do: Mapping[str, float], row: Any) -> None:
        """Record an experiment nobody asked for: do={"x": 1.2}; an empty `do` is an observation. It costs no budget.

        Raises:
            AcboError: not exactly one variable, one that cannot be set, a value outside its domain, or an impossible row.
        """

        def decide(entries: list[Entry]) -> Entry:
            facts = self._facts(entries)
            if len(do) > 1:
                raise AcboError("an experiment sets one variable", "experiments that set several cannot be used")
            values = row_values(row, facts.variables)
            variable, value = next(iter(do.items())) if do else (None, None)
            return {"kind": "rows", "rows": [_external(facts, variable, value, values, "row")]}

        self._journal.update(decide)

    def import_csv(self, path: str | Path) -> int:
        """Record the rows of a CSV file, all or none; a column `intervention` names the variable that was set, empty for an
        observation. Without that column all rows are observations. Returns the number of rows."""
        table = read_csv(path)
        count = [0]

        def decide(entries: list[Entry]) -> Entry | None:
            facts = self._facts(entries)
            for name in table.names:
                if name not in facts.variables and name != "intervention":
                    hint = did_you_mean(name, [*facts.variables, "intervention"])
                    raise AcboError(f"{path}: column {name!r} is no variable of this campaign", hint)
            values = select(table, facts.variables)
            column = table.names.index("intervention") if "intervention" in table.names else None
            rows = []
            for n, cells, row in zip(table.lines, table.rows, values, strict=True):
                variable = cells[column].strip() or None if column is not None else None
                value = row[facts.variables.index(variable)] if variable in facts.variables else None
                rows.append(_external(facts, variable, value, row, f"{path}, line {n}"))
            count[0] = len(rows)
            return {"kind": "rows", "rows": rows} if rows else None

        self._journal.update(decide)
        return count[0]

    def recommend(self) -> Recommendation:
        """What to settle on now, and how much better than doing nothing it is. Writes nothing."""
        facts = self._read()
        session = self._session(facts)
        decision = session.decide(decision="surrogate", optimism=0.0)
        mean, error = float(decision.outcome_mean[0]), float(decision.outcome_error[0]) * facts.expectation_factor
        target = facts.observations[:, facts.target_index]
        sign, name = facts.cost, facts.variables[int(decision.variable[0])]
        low, high = sorted((sign * (mean - QUANTILE * error), sign * (mean + QUANTILE * error)))
        shared: dict[str, Any] = {
            "variable": name, "value": float(decision.value[0]), "predicted": sign * mean, "low": low, "high": high,
            "parent_probability": float(decision.parent_probability[0, decision.variable[0]]),
        }  # fmt: skip
        if len(target) == 0:
            nothing: dict[str, Any] = dict.fromkeys(("baseline", "improvement", "improvement_low", "improvement_high"))
            return Recommendation(**shared, **nothing, verdict="no observations: what doing nothing gives is not known")
        baseline, count = float(target.mean()), len(target)
        better = sign * baseline - mean
        if count > 1:  # Student's t: the spread is estimated from few rows
            margin = float(stdtrit(count - 1, (1 + COVERAGE) / 2)) * float(target.std(ddof=1)) / math.sqrt(count)
        else:
            margin = QUANTILE * float(decision.outcome_std[0]) * facts.outcome_factor
        margin = math.hypot(QUANTILE * error, margin)
        probability = float(ndtr(better / (margin / QUANTILE)))
        chance = "more than 0.99" if probability > 0.99 else f"{probability:.2f}"
        if better - margin > 0:
            verdict = f"improvement likely (probability {chance})"
        elif probability > 0.75:
            verdict = f"improvement not established: the interval includes none (probability of one {chance})"
        else:
            verdict = f"no improvement likely (probability of one {chance})"
        return Recommendation(
            **shared, baseline=baseline, improvement=better, improvement_low=better - margin,
            improvement_high=better + margin, verdict=verdict,
        )  # fmt: skip

    def beliefs(self) -> list[Belief]:
        """What the policy thinks of every variable but the target. Writes nothing."""
        facts = self._read()
        session, found = self._session(facts), []
        for i, name in enumerate(facts.variables):
            if name == facts.target:
                continue
            if facts.domains[i] is None:
                parents = session.decide().parent_probability
                found.append(Belief(name, float(parents[0, i]), None, None, None, None))
                continue
            only = np.arange(len(facts.variables))[None] == i
            decision = session.decide(decision="surrogate", optimism=0.0, allowed=only)
            mean, error = float(decision.outcome_mean[0]), float(decision.outcome_error[0]) * facts.expectation_factor
            low, high = sorted(facts.cost * (mean + side * QUANTILE * error) for side in (-1, 1))
            probability = float(decision.parent_probability[0, i])
            found.append(Belief(name, probability, float(decision.value[0]), facts.cost * mean, low, high))
        return found

    def status(self) -> dict[str, Any]:
        """Where the campaign stands, as plain data. Writes nothing."""
        entries, torn = self._journal.read()
        facts = self._facts(entries)
        return {
            "target": facts.target,
            "direction": facts.direction,
            "variables": {
                n: None if d is None else list(d) for n, d in zip(facts.variables, facts.domains, strict=True)
            },
            "budget": facts.budget,
            "remaining": facts.remaining,
            "observations": len(facts.observations),
            "interventions": len(facts.interventions),
            "pending": [asdict(p) for p in facts.pending],
            "torn_line": torn.decode(errors="replace")[:200] if torn else None,
            "policy_sha256": facts.policy_sha256,
        }

    def history(self) -> list[dict[str, Any]]:
        """Every experiment so far, in order of the journal's proposals: proposal, and the measured target or None."""
        facts = self._read()
        return [
            {**asdict(p), "measured": facts.told[p.id][facts.target_index] if p.id in facts.told else None}
            for p in facts.proposals.values()
        ]

    # --------------------------------------------------------------------------------------------------- inside

    def _read(self) -> _Facts:
        entries, torn = self._journal.read()
        if torn:
            _warn("the journal's last line is torn, as a crash leaves it; it is ignored")
        return self._facts(entries)

    def _facts(self, entries: list[Entry]) -> _Facts:
        facts = _replay(entries, self._journal.path)
        if facts.policy_sha256 != self._checkpoint.sha256:
            raise AcboError(
                f"{self.path / _policy_name(facts.policy_sha256)} is not the policy of this campaign: its hash is "
                f"{self._checkpoint.sha256[:16]}..., the journal says {facts.policy_sha256[:16]}...",
                "put the original file back; a campaign keeps its policy",
            )
        return facts

    def _session(self, facts: _Facts) -> _Units:
        """The policy after everything that was measured.

        What is not set is handed over in units of its mean and spread over all rows. With three or more observations this
        changes nothing, since the policy takes its units from them; with fewer it keeps the units sensible.
        """
        observed, done = facts.observations, facts.interventions[-INTERVENTIONS_READ:]
        if len(observed) > OBSERVATIONS_READ:
            _warn(f"the policy reads {OBSERVATIONS_READ} of the {len(observed)} observations, evenly spaced")
            observed = observed[np.linspace(0, len(observed) - 1, OBSERVATIONS_READ).astype(int)]
        measured = np.concatenate([observed, np.array([row for _, row in done]).reshape(-1, observed.shape[1])])
        manipulable = np.array([d is not None for d in facts.domains])
        low = np.array([-1.0 if d is None else d[0] for d in facts.domains])
        high = np.array([1.0 if d is None else d[1] for d in facts.domains])
        mean = _column_means(measured)
        spread = np.sqrt(_column_means((measured - mean) ** 2))
        spread = np.where(spread > 1e-12 * np.abs(mean), spread, 1.0)
        location, scale = np.where(manipulable, 0.0, mean), np.where(manipulable, 1.0, spread)
        scale[facts.target_index] *= facts.cost
        unknown = np.where(manipulable, (low + high) / 2, mean)
        filling = np.where(np.isnan(observed).all(axis=0), unknown, _column_means(observed))

        def units(rows: Array) -> Array:
            return np.asarray((np.where(np.isnan(rows), filling, rows) - location) / scale)

        task = Task(
            observations=units(observed)[None],
            observation_mask=np.ones((1, len(observed)), bool),
            target=np.array([facts.target_index]),
            valid=np.ones((1, len(manipulable)), bool),
            manipulable=manipulable[None],
            low=low[None],
            high=high[None],
        )
        session: Session = self._backend.session(self._state, task, len(done))
        for variable, row in done:
            session.observe(np.array([variable]), units(np.array([row])))
        target = facts.target_index
        return _Units(session, facts.cost * float(location[target]), abs(float(scale[target])))

    def _propose(self, facts: _Facts) -> Proposal:
        waiting = {p.variable for p in facts.pending}
        allowed = np.array(
            [[d is not None and n not in waiting for n, d in zip(facts.variables, facts.domains, strict=True)]]
        )
        if not allowed.any():
            raise AcboError("every variable that can be set has a pending proposal", "tell one of them first")
        session = self._session(facts)
        decision = session.decide(allowed=allowed)
        settled = session.decide(decision="surrogate", optimism=0.0, allowed=allowed)
        mean = float(decision.outcome_mean[0])
        margin = QUANTILE * float(decision.outcome_std[0]) * facts.outcome_factor
        low, high = sorted((facts.cost * (mean - margin), facts.cost * (mean + margin)))
        variable = int(decision.variable[0])
        return Proposal(
            id=f"e{len(facts.proposals) + 1}",
            variable=facts.variables[variable],
            value=float(decision.value[0]),
            predicted=facts.cost * mean,
            low=low,
            high=high,
            parent_probability=float(decision.parent_probability[0, variable]),
            reason=_reason(facts, decision, settled),
        )


def load_campaign(path: str | Path) -> Campaign:
    """Open a campaign's folder.

    Raises:
        AcboError: there is none, or its journal or policy is damaged or does not belong to it.
    """
    path = Path(path)
    if not (path / "journal.jsonl").exists():
        raise AcboError(f"no campaign at {path}", "create one with `acbo campaign new`")
    entries, _ = Journal(path / "journal.jsonl").read()
    facts = _replay(entries, path / "journal.jsonl")
    campaign = Campaign(path, load_checkpoint(path / _policy_name(facts.policy_sha256)))
    campaign._read()
    return campaign


def _policy_name(sha256: str) -> str:
    return f"policy-{str(sha256)[:16]}.npz"


# --------------------------------------------------------------------------------------------------------- checks


def _checked_domain(name: str, domain: Any, is_target: bool) -> tuple[float, float] | None:
    if domain is None:
        return None
    if is_target:
        raise AcboError(f"the target {name!r} cannot be set", "give domains of other variables")
    try:
        if isinstance(domain, str):
            raise ValueError
        low, high = (number(end, f"domain of {name!r}") for end in domain)
    except (TypeError, ValueError) as error:
        raise AcboError(f"the domain of {name!r} is not (low, high)") from error
    if not low < high:  # nan included
        raise AcboError(f"the domain of {name!r} is {low:g} to {high:g}", "its low end must lie below its high end")
    if high - low < max(1e-100, 1e-12 * max(abs(low), abs(high))):
        raise AcboError(f"the domain of {name!r} is too narrow to be told apart", "give it in another unit")
    return low, high


def _checked_budget(budget: Any) -> int | None:
    if budget is None:
        return None
    try:
        whole = operator.index(budget)
    except TypeError:
        whole = 0
    if whole < 1 or isinstance(budget, bool):
        raise AcboError(f"a budget of {budget!r} is not possible", "give a whole number of experiments, at least 1")
    return whole


def domain_from_data(values: Array, name: str) -> tuple[float, float]:
    """1st to 99th percentile of the values, missing ones left out."""
    known = values[~np.isnan(values)]
    if known.size == 0 or known.min() == known.max():
        raise AcboError(f"{name!r} does not vary in the data", f"give --domain {name}=LOW:HIGH, or --fixed {name}")
    low, high = np.percentile(known, DOMAIN_PERCENTILES)
    return float(low), float(high)


def _check_observations(rows: Array, names: Sequence[str], target: str) -> None:
    if len(rows) < FEW_OBSERVATIONS:
        _warn(f"{len(rows)} observational rows: predictions will be poor until some experiments are told")
    if np.isnan(rows[:, names.index(target)]).any():
        raise AcboError(f"the target {target!r} is missing in some observations", "leave those rows out")
    for i, name in enumerate(names):
        known = rows[:, i][~np.isnan(rows[:, i])]
        if len(rows) and known.size == 0:
            raise AcboError(f"{name!r} is missing in every observation", "leave the variable out")
        if len(rows) > 1 and known.min() == known.max():
            _warn(f"{name!r} never varies in the observations: they tell nothing of its effect")
        for j in range(i):
            if len(rows) > 1 and known.size and known.min() < known.max() and np.array_equal(rows[:, i], rows[:, j]):
                _warn(
                    f"{names[j]!r} and {name!r} are equal in every observation: leave one out if they are the same thing"
                )


def _check_reach(config: Config, variables: int, rows: int) -> None:
    widest = max(stage.variables[1] for stage in config.curriculum.stages)
    if variables > widest:
        _warn(f"{variables} variables, and the policy was trained on at most {widest}: it extrapolates")
    if rows > config.observations_per_episode[1]:
        _warn(
            f"{rows} observational rows, and the policy was trained on at most {config.observations_per_episode[1]}: "
            "it extrapolates"
        )


def _checked_row(facts: _Facts, row: list[float], variable: str, value: float) -> list[float]:
    """A row in which `variable` was set to `value`, completed."""
    if math.isnan(row[facts.target_index]):
        raise AcboError(f"the target {facts.target!r} is missing", "an experiment without its outcome teaches nothing")
    index = facts.variables.index(variable)
    low, high = facts.domains[index]  # type: ignore[misc]
    if math.isnan(row[index]):
        row[index] = value
    elif abs(row[index] - value) > SET_POINT_TOLERANCE * (high - low):
        raise AcboError(
            f"{variable!r} is {row[index]:g} in the row and was to be set to {value:g}",
            "tell_external (or `import`) records an experiment that was done otherwise",
        )
    return row


def _external(facts: _Facts, variable: str | None, value: Any, row: list[float], where: str) -> dict[str, Any]:
    """A journal row of an experiment nobody asked for, or of an observation."""
    if math.isnan(row[facts.target_index]):
        raise AcboError(f"{where}: the target {facts.target!r} is missing", "leave the row out")
    if variable is None:
        return {"variable": None, "row": _plain(row)}
    if variable not in facts.variables:
        raise AcboError(f"{where}: no variable named {variable!r}", did_you_mean(variable, facts.variables))
    domain = facts.domains[facts.variables.index(variable)]
    if domain is None:
        raise AcboError(f"{where}: {variable!r} cannot be set in this campaign", "leave the experiment out")
    value = number(value, f"{where}, value of {variable!r}")
    if math.isnan(value):
        raise AcboError(f"{where}: the value that {variable!r} was set to is missing")
    if not domain[0] <= value <= domain[1]:
        raise AcboError(
            f"{where}: {variable!r} = {value:g} is outside its domain {domain[0]:g} to {domain[1]:g}",
            "domains are fixed; a new campaign can have a wider one",
        )
    return {"variable": variable, "row": _plain(_checked_row(facts, row, variable, value))}


def _column_means(observations: Array) -> Array:
    """Mean of each column over what is known of it, 0 where nothing is."""
    known = ~np.isnan(observations)
    return np.where(known, observations, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)


def _reason(facts: _Facts, decision: Decision, settled: Decision) -> str:
    variable = facts.variables[int(decision.variable[0])]
    better = "highest" if facts.direction == "maximize" else "lowest"
    if decision.variable[0] == settled.variable[0] and decision.value[0] == settled.value[0]:
        return f"the {better} {facts.target} expected of anything"
    reach = float(decision.outcome_mean[0] - QUANTILE * decision.outcome_error[0] * facts.expectation_factor)
    return f"to learn: {variable} is little known, and {facts.target} could become {facts.cost * reach:.4g}"


# ---------------------------------------------------------------------------------------------------- calibration


def calibrate(checkpoint: Checkpoint) -> tuple[float, float]:
    """Factors that make the 90 % intervals right on systems simulated from the policy's own prior.

    On systems that training never saw, the policy plays a few interventions; the factor is the 90 % quantile of
    |deviation| / (1.645 predicted deviation), for the next measured outcome and for the expectation (mean of antithetic
    draws).

    Returns:
        (outcome_factor, expectation_factor)
    """
    config = checkpoint.config
    last, pools = config.curriculum.stages[-1], config.curriculum.pools
    graphs = tuple(g for g in last.graphs if g not in pools) or ("erdos_renyi",)  # a pool's files may be elsewhere
    stage = replace(last, until_episode=None, advance_score=None, graphs=graphs)
    config = replace(
        config,
        batch_size=CALIBRATION_SYSTEMS,
        dtype=None,
        curriculum=replace(config.curriculum, stages=(stage,), pools={}),
    )
    problems, observation_mask, _ = Curriculum(config).sample(2**30)  # an iteration that no training reaches
    count, width = problems.shape
    rng = generator(config.seed, Role.CALIBRATION, 0)
    backend = ReferenceBackend(config)
    task = observe(problems, rng.standard_normal((count, observation_mask.shape[1], width)), observation_mask)
    session = backend.session(backend.from_host(checkpoint.state), task, CALIBRATION_STEPS)
    each = np.arange(count)
    ratios: list[tuple[Array, Array]] = []
    for _ in range(CALIBRATION_STEPS):
        decision = session.decide()
        half = rng.standard_normal((count, CALIBRATION_DRAWS // 2, width))
        noise = np.concatenate([half, -half], axis=1)
        draws = noise.shape[1]
        rows = simulate(
            problems,
            noise,
            np.repeat(decision.variable[:, None], draws, 1),
            np.repeat(decision.value[:, None], draws, 1),
        )
        target = rows[each, :, task.target]
        ratios.append(
            (
                np.abs(target[:, 0] - decision.outcome_mean) / decision.outcome_std,
                np.abs(target.mean(axis=1) - decision.outcome_mean) / decision.outcome_error,
            )
        )
        session.observe(decision.variable, rows[:, 0])
    outcome, expectation = (np.quantile(np.stack(r), COVERAGE) / QUANTILE for r in zip(*ratios, strict=True))
    return float(outcome), float(expectation)
