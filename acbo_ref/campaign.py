"""Campaigns: the policy proposes an experiment, a person does it and tells what came out, and so on.

    campaign = Campaign.create("reactor", {"temp": (20, 80), "dose": (0, 5), "age": None, "yield": None}, "yield",
                               direction="maximize", observations=table, budget=20)
    proposal = campaign.ask()
    campaign.tell(proposal.id, {"temp": 61.0, "dose": 2.2, "age": 40, "yield": 7.3})
    campaign.recommend()

Everything follows from the folder: `journal.jsonl` (journal.py), and `policy-HASH.npz`, a copy of the policy's weights. Each
command replays the journal, so killing a process anywhere changes nothing. Units are the user's; the sign of a target to be
maximised is flipped in `Facts.cost` and nowhere else.

Missing values: the target and the variable that was set must be known. Any other missing value is replaced by the mean of the
variable over the observational rows (without any, the middle of its domain, or its mean over all rows), in what the policy
reads; the journal keeps it as missing.

Intervals: the outcome head's Gaussian ones, widened by a factor that makes them right on systems simulated from the policy's
own prior (split conformal prediction, Vovk et al. 2005; the factor is fixed at creation).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from acbo_ref.backend import ReferenceBackend
from acbo_ref.calibration import COVERAGE, QUANTILE, calibrate
from acbo_ref.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, shipped_policy
from acbo_ref.errors import AcboError, RunError, did_you_mean
from acbo_ref.history import Task
from acbo_ref.journal import Entry, Journal
from acbo_ref.records import (
    SCHEMA,
    CampaignWarning,
    Facts,
    Proposal,
    check_observations,
    check_reach,
    checked_budget,
    checked_domain,
    checked_row,
    column_means,
    domain_from_data,
    external_row,
    plain,
    replay,
    warn,
)
from acbo_ref.rollout import Decision, Session
from acbo_ref.tables import check_names, observation_rows, read_csv, row_values, select

Array = NDArray[Any]
Domains = Mapping[str, tuple[float, float] | None]

# The policy reads at most so many rows, evenly spaced observations and the latest experiments: memory grows with their square.
OBSERVATIONS_READ, INTERVENTIONS_READ = 200, 300

__all__ = ["Belief", "Campaign", "CampaignWarning", "Proposal", "Recommendation", "domain_from_data", "load_campaign"]


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
        budget = checked_budget(budget)
        domains = [checked_domain(name, variables[name], name == target) for name in names]
        if not any(d is not None for d in domains):
            raise AcboError("no variable can be set", "give the domain (low, high) of at least one")
        rows = observation_rows(observations, names)
        table = np.array(rows, float).reshape(-1, len(names))
        check_observations(table, names, target)
        checkpoint = load_checkpoint(policy if policy is not None else shipped_policy())
        check_reach(checkpoint.config, len(names), len(rows))
        factors = calibrate(checkpoint)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot create {path}: {error.strerror or error}", "choose another folder") from error
        unnamed = path / f".policy-{os.getpid()}.tmp.npz"  # its name is its hash, known once it is written
        sha256 = save_checkpoint(checkpoint, unnamed, moments=False)
        os.replace(unnamed, path / _policy_name(sha256))
        created: Entry = {
            "kind": "created", "schema": SCHEMA, "target": target, "direction": direction, "variables": names,
            "domains": [None if d is None else list(d) for d in domains], "budget": budget, "policy_sha256": sha256,
            "outcome_factor": factors[0], "expectation_factor": factors[1],
        }  # fmt: skip
        given: Entry = {"kind": "rows", "rows": [{"variable": None, "row": plain(row)} for row in rows]}
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
            measured = checked_row(facts, row_values(row, facts.variables), proposal.variable, proposal.value)
            return {"kind": "told", "id": id, "row": plain(measured)}

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
            return {"kind": "rows", "rows": [external_row(facts, variable, value, values, "row")]}

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
                rows.append(external_row(facts, variable, value, row, f"{path}, line {n}"))
            count[0] = len(rows)
            return {"kind": "rows", "rows": rows} if rows else None

        self._journal.update(decide)
        return count[0]

    def recommend(self) -> Recommendation:
        """What to settle on now, and how much better than doing nothing it is. Writes nothing."""
        facts = self._read()
        session = self._session(facts)
        decision = session.decide(decision="surrogate", optimism=0.0)
        mean, error = _expectation(facts, decision)
        predicted, low, high = _interval(facts, mean, error)
        target = facts.observations[:, facts.target_index]
        sign, name = facts.cost, facts.variables[int(decision.variable[0])]
        shared: dict[str, Any] = {
            "variable": name, "value": float(decision.value[0]), "predicted": predicted, "low": low, "high": high,
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
        parents = session.decide().parent_probability[0]
        for i, name in enumerate(facts.variables):
            if name == facts.target:
                continue
            value, predicted, low, high = None, None, None, None
            if facts.domains[i] is not None:
                only = np.arange(len(facts.variables))[None] == i
                decision = session.decide(decision="surrogate", optimism=0.0, allowed=only)
                value = float(decision.value[0])
                predicted, low, high = _interval(facts, *_expectation(facts, decision))
            found.append(Belief(name, float(parents[i]), value, predicted, low, high))
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

    def _read(self) -> Facts:
        entries, torn = self._journal.read()
        if torn:
            warn("the journal's last line is torn, as a crash leaves it; it is ignored")
        return self._facts(entries)

    def _facts(self, entries: list[Entry]) -> Facts:
        facts = replay(entries, self._journal.path)
        if facts.policy_sha256 != self._checkpoint.sha256:
            raise AcboError(
                f"{self.path / _policy_name(facts.policy_sha256)} is not the policy of this campaign: its hash is "
                f"{self._checkpoint.sha256[:16]}..., the journal says {facts.policy_sha256[:16]}...",
                "put the original file back; a campaign keeps its policy",
            )
        return facts

    def _session(self, facts: Facts) -> _Units:
        """The policy after everything that was measured.

        What is not set is handed over in units of its mean and spread over all rows. With three or more observations this
        changes nothing, since the policy takes its units from them; with fewer it keeps the units sensible.
        """
        observed, done = facts.observations, facts.interventions[-INTERVENTIONS_READ:]
        if len(observed) > OBSERVATIONS_READ:
            warn(f"the policy reads {OBSERVATIONS_READ} of the {len(observed)} observations, evenly spaced")
            observed = observed[np.linspace(0, len(observed) - 1, OBSERVATIONS_READ).astype(int)]
        measured = np.concatenate([observed, np.array([row for _, row in done]).reshape(-1, observed.shape[1])])
        manipulable = np.array([d is not None for d in facts.domains])
        low = np.array([-1.0 if d is None else d[0] for d in facts.domains])
        high = np.array([1.0 if d is None else d[1] for d in facts.domains])
        mean = column_means(measured)
        spread = np.sqrt(column_means((measured - mean) ** 2))
        spread = np.where(spread > 1e-12 * np.abs(mean), spread, 1.0)
        location, scale = np.where(manipulable, 0.0, mean), np.where(manipulable, 1.0, spread)
        scale[facts.target_index] *= facts.cost
        unknown = np.where(manipulable, (low + high) / 2, mean)
        filling = np.where(np.isnan(observed).all(axis=0), unknown, column_means(observed))

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

    def _propose(self, facts: Facts) -> Proposal:
        waiting = {p.variable for p in facts.pending}
        allowed = np.array(
            [[d is not None and n not in waiting for n, d in zip(facts.variables, facts.domains, strict=True)]]
        )
        if not allowed.any():
            raise AcboError("every variable that can be set has a pending proposal", "tell one of them first")
        session = self._session(facts)
        decision = session.decide(allowed=allowed)
        settled = session.decide(decision="surrogate", optimism=0.0, allowed=allowed)
        std = float(decision.outcome_std[0]) * facts.outcome_factor
        predicted, low, high = _interval(facts, float(decision.outcome_mean[0]), std)
        variable = int(decision.variable[0])
        return Proposal(
            id=f"e{len(facts.proposals) + 1}",
            variable=facts.variables[variable],
            value=float(decision.value[0]),
            predicted=predicted,
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
    facts = replay(entries, path / "journal.jsonl")
    campaign = Campaign(path, load_checkpoint(path / _policy_name(facts.policy_sha256)))
    campaign._read()
    return campaign


def _expectation(facts: Facts, decision: Decision) -> tuple[float, float]:
    """Expected cost under a decision, and the calibrated standard error of that."""
    return float(decision.outcome_mean[0]), float(decision.outcome_error[0]) * facts.expectation_factor


def _interval(facts: Facts, cost: float, deviation: float) -> tuple[float, float, float]:
    """(target, low end, high end of its 90 % interval) of a cost with a Gaussian deviation."""
    low, high = sorted(facts.cost * (cost + side * QUANTILE * deviation) for side in (-1, 1))
    return facts.cost * cost, low, high


def _policy_name(sha256: str) -> str:
    return f"policy-{str(sha256)[:16]}.npz"


def _reason(facts: Facts, decision: Decision, settled: Decision) -> str:
    variable = facts.variables[int(decision.variable[0])]
    better = "highest" if facts.direction == "maximize" else "lowest"
    if decision.variable[0] == settled.variable[0] and decision.value[0] == settled.value[0]:
        return f"the {better} {facts.target} expected of anything"
    mean, error = _expectation(facts, decision)
    reach = mean - QUANTILE * error
    return f"to learn: {variable} is little known, and {facts.target} could become {facts.cost * reach:.4g}"
