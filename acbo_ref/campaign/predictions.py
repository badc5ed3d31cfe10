"""What the policy says of a campaign: the next experiment, what it thinks of each variable, and
answers to questions. What to settle on is in settling.py.

Missing values: the target and the variable that was set must be known. Any other missing value is
replaced by the mean of the variable over the observational rows (without any, the middle of its
domain, or its mean over all rows), in what the policy reads; the journal keeps it as missing.

Intervals: the outcome head's Gaussian ones, widened by a factor that makes them right on systems
simulated from the policy's own prior (split conformal prediction, Vovk et al. 2005; the factor is
fixed when the campaign is created).

Contract: functions of facts and of a policy; writes nothing.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.backend import ReferenceBackend
from acbo_ref.campaign.calibration import QUANTILE
from acbo_ref.campaign.facts import FINAL, Facts, Judged, Proposal, column_means, warn
from acbo_ref.campaign.journal import Entry
from acbo_ref.campaign.reach import outside_words
from acbo_ref.campaign.scales import Coordinates
from acbo_ref.campaign.words import Words
from acbo_ref.errors import AcboError
from acbo_ref.grpo.optim import OptimiserState
from acbo_ref.policy import screening
from acbo_ref.policy.acquisition import optimism_for_final, optimism_now
from acbo_ref.policy.exogenous import see_through
from acbo_ref.policy.inputs import Task
from acbo_ref.policy.network import reads_pairs
from acbo_ref.policy.screening import MOST_VARIABLES
from acbo_ref.policy.session import AnySession, Decision

# A policy that reads rows, and not moments, gets this many at most, evenly spaced observations and
# the latest experiments: memory grows with their square.
OBSERVATIONS_READ, INTERVENTIONS_READ = 200, 300
# Experiments that are left, as the policy head is told, in a campaign without a budget.
UNKNOWN_BUDGET = 10


@dataclass(frozen=True)
class Belief:
    """Of one variable: P(direct cause of the target), and for a manipulable one its best value and
    what that would give.
    """

    variable: str
    parent_probability: float
    value: float | None
    predicted: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Answer(Words):
    """What is expected if `variable` is set to `value`.

    Attributes:
        predicted, low, high: expectation of the target, and its 90 % interval.
        measured_low, measured_high: the 90 % interval of a single outcome.
        baseline: mean of the target over the observational rows: doing nothing. None without any.
        warnings: what speaks against it: bounds of the campaign that an outcome may pass,
            measurements nearby that left a warning range, and that nothing was measured so far out.
    """

    variable: str
    value: float
    predicted: float
    low: float
    high: float
    measured_low: float
    measured_high: float
    baseline: float | None
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"{self.variable} = {self.value:.10g}",
            f"  expected {self.predicted:.4g} [{self.low:.4g}, {self.high:.4g}]",
            f"  a single outcome within [{self.measured_low:.4g}, {self.measured_high:.4g}] with 90 %",
        ]
        lines += [] if self.baseline is None else [f"  doing nothing gave {self.baseline:.4g}"]
        return "\n".join([*lines, *(f"  take care: {words}" for words in self.warnings)])


class CampaignSession:
    """A session whose target was handed over in other units: costs = location + scale * what the
    policy says.

    Attributes:
        reads: (V,) bool, the variables that it speaks of.
        optimism: the errors that the policy's next decision subtracts.
        only_final: whether that decision is for what is settled on in the end alone; then it may be
            expected to do harm.
        past_costs: (O,) of the observations, without what exogenous variables explain of them.
        exogenous_std: standard deviation that these give the cost; it is in what is said of a
            single outcome.
    """

    def __init__(
        self,
        session: AnySession,
        location: float,
        scale: float,
        reads: Array,
        optimism: float,
        coordinates: Coordinates,
        past_costs: Array,
        exogenous_std: float = 0.0,
        only_final: bool = False,
    ) -> None:
        self._session, self._location, self._scale = session, location, scale
        self._coordinates = coordinates
        self.reads, self.optimism, self.only_final = reads, optimism, only_final
        self.past_costs, self.exogenous_std = past_costs, exogenous_std

    def decide(
        self, decision: str | None = None, optimism: float | None = None, allowed: Array | None = None
    ) -> Decision:
        """As `policy.session.Session.decide`, with values and outcomes (costs) in the user's unit.
        The value is the nearest that is allowed, and the prediction is of that.

        Raises:
            AcboError: the numbers told are so far apart that nothing finite comes out.
        """
        if optimism is None and self.only_final:
            optimism = self.optimism
        found = self._session.decide(decision=decision, optimism=optimism, allowed=allowed)
        _check_finite(found.value, found.outcome_mean, found.outcome_error, found.outcome_std)
        chosen = int(found.variable[0])
        value = self._coordinates.outside(chosen, found.value) if chosen >= 0 else found.value
        if chosen >= 0 and self._coordinates.scales[chosen].step is not None:
            mean, error, std = self.predict(found.variable, value)
            return replace(found, value=value, outcome_mean=mean, outcome_error=error, outcome_std=std)
        return replace(
            found,
            value=value,
            outcome_mean=self._location + self._scale * found.outcome_mean,
            outcome_error=self._scale * found.outcome_error,
            outcome_std=np.hypot(self._scale * found.outcome_std, self.exogenous_std),
        )

    def predict(self, variable: Array, value: Array) -> tuple[Array, Array, Array]:
        """(expected cost, its standard error, standard deviation of the next outcome) of N actions,
        (N,) each, in the user's unit.

        Raises:
            AcboError: as `decide`.
        """
        found = self._session.predict(variable[None], self._inside(variable, value)[None])
        _check_finite(found.mean, found.error, found.std)
        std = np.hypot(self._scale * found.std[0], self.exogenous_std)
        return self._location + self._scale * found.mean[0], self._scale * found.error[0], std

    def near(self, variable: Array, value: Array) -> Array:
        """(N,) bool, which actions lie near enough to what was seen; see policy.session."""
        return np.asarray(self._session.near(variable[None], self._inside(variable, value)[None])[0])

    def _inside(self, variable: Array, value: Array) -> Array:
        """The values in coordinates, (N,)."""
        inside = value.astype(float)
        for i in set(variable.tolist()):
            inside[variable == i] = self._coordinates.inside(i, inside[variable == i])
        return inside


def _check_finite(*numbers: Array) -> None:
    if not all(np.isfinite(x).all() for x in numbers):
        raise AcboError(
            "the measurements are too far apart for a prediction", "a typing error in a row? `correct` mends it"
        )


def domain_ends(facts: Facts) -> tuple[Array, Array, Array]:
    """Which variables can be set, (V,) bool, and the ends of the domains in coordinates, (V,) each;
    -1 and 1 where there is no domain.
    """
    ends = [(-1.0, 1.0) if d is None else facts.coordinates.domain(i) for i, d in enumerate(facts.domains)]
    low, high = np.array(ends).T
    return np.array([d is not None for d in facts.domains]), low, high


def task_of(facts: Facts, observed: Array) -> Task:
    """A campaign as the task of one system; observed (O, V)."""
    manipulable, low, high = domain_ends(facts)
    return Task(
        observations=observed[None],
        observation_mask=np.ones((1, len(observed)), bool),
        target=np.array([facts.target_index]),
        valid=np.ones((1, len(manipulable)), bool),
        manipulable=manipulable[None],
        low=low[None],
        high=high[None],
    )


def open_session(facts: Facts, backend: ReferenceBackend, state: OptimiserState[Array]) -> CampaignSession:
    """The policy after everything that was measured.

    What is not set is handed over in units of its mean and spread over all rows. With three or more
    observations this changes nothing, since the policy takes its units from them; with fewer it
    keeps the units sensible.
    """
    coordinates = facts.coordinates
    observed = coordinates.rows(facts.observations)
    done = [(was_set, coordinates.rows(np.array(row))) for was_set, row in facts.interventions]
    over_rows = not reads_pairs(backend.config.policy)  # moments have no limit
    if over_rows:
        done = done[-INTERVENTIONS_READ:]
    if over_rows and len(observed) > OBSERVATIONS_READ:
        warn(f"the policy reads {OBSERVATIONS_READ} of the {len(observed)} past rows, evenly spaced")
        observed = observed[np.linspace(0, len(observed) - 1, OBSERVATIONS_READ).astype(int)]
    measured = np.concatenate([observed, np.array([row for _, row in done]).reshape(-1, observed.shape[1])])
    manipulable, low, high = domain_ends(facts)
    mean = column_means(measured)
    spread = np.sqrt(column_means((measured - mean) ** 2))
    spread = np.where(spread > 1e-12 * np.abs(mean), spread, 1.0)
    location, scale = np.where(manipulable, 0.0, mean), np.where(manipulable, 1.0, spread)
    scale[facts.target_index] *= facts.cost
    unknown = np.where(manipulable, (low + high) / 2, mean)
    filling = np.where(np.isnan(observed).all(axis=0), unknown, column_means(observed))

    def filled(units: Array) -> Array:
        return np.where(np.isnan(units), (filling - location) / scale, units)

    masks = np.array([np.isin(np.arange(len(manipulable)), were_set) for were_set, _ in done], bool)
    masks = masks.reshape(-1, len(manipulable))
    rows = (np.array([row for _, row in done]).reshape(masks.shape) - location) / scale
    seen = see_through(task_of(facts, (observed - location) / scale), masks[None], rows[None], facts.is_exogenous[None])
    task, was_set = replace(seen.task, observations=filled(seen.task.observations)), np.asarray(masks.any(axis=0))
    if not over_rows and len(manipulable) > MOST_VARIABLES:
        warn(f"the policy reads the {MOST_VARIABLES} most promising of the {len(manipulable)} variables")
    budget = len(done) + (UNKNOWN_BUDGET if facts.remaining is None else facts.remaining)
    session = screening.open_session(
        backend.config.policy, task, lambda t: backend.session(state, t, len(done), budget), was_set[None]
    )
    for mask, row in zip(masks, filled(seen.rows[0]), strict=True):
        session.observe(mask[None], row[None])
    only_final = facts.objective == FINAL
    usual = float(optimism_now(backend.config.optimism, max(budget - len(done) - 1, 0)))
    target = facts.target_index
    reads = screening.variables_read(backend.config.policy, task, was_set[None])[0]
    unit = abs(float(scale[target]))
    optimism = optimism_for_final(budget) if only_final else usual
    usual_cost = facts.cost * float(location[target])
    return CampaignSession(
        session, usual_cost, unit, reads, optimism, coordinates, usual_cost + unit * task.observations[0, :, target],
        unit * float(seen.std[0]), only_final,
    )  # fmt: skip


def choosable(facts: Facts, session: CampaignSession) -> Array:
    """(V,) bool: variables that can be set, are read, and have no pending proposal.

    Raises:
        AcboError: there is none.
    """
    waiting = {p.variable for p in facts.pending}
    free = [d is not None and n not in waiting for n, d in zip(facts.variables, facts.domains, strict=True)]
    allowed = np.array(free) & session.reads
    if not allowed.any():
        raise AcboError("every variable that can be set has a pending proposal", "tell one of them first")
    return np.asarray(allowed)


def proposal(facts: Facts, session: CampaignSession) -> Proposal:
    """The next experiment, about a variable that is not among those with a pending proposal."""
    allowed = choosable(facts, session)[None]
    decision = session.decide(allowed=allowed)
    settled = session.decide(decision="outcome_head", optimism=0.0, allowed=allowed)
    std = float(decision.outcome_std[0]) * facts.outcome_factor
    variable = int(decision.variable[0])
    return proposed(
        facts, variable, float(decision.value[0]), float(decision.outcome_mean[0]), std,
        float(decision.parent_probability[0, variable]), _reason(facts, decision, settled), True,
    )  # fmt: skip


def proposed(
    facts: Facts,
    variable: int,
    value: float,
    cost: float,
    std: float,
    parent_probability: float,
    reason: str,
    bounds_help: bool,
) -> Proposal:
    """The next proposal; the cost's std is calibrated. Where it lies outside of all that was seen
    its reason says so, and with `bounds_help` which bounds would hold it back.
    """
    predicted, low, high = interval(facts, cost, std)
    words = outside_words(facts, variable, value)
    if words and bounds_help:
        words += f"; --step or --never-{'below' if facts.direction == 'maximize' else 'above'} hold it back"
    reason = f"{reason}; {words}" if words else reason
    return Proposal(
        f"e{len(facts.proposals) + 1}", facts.variables[variable], value, predicted, low, high, parent_probability,
        reason,
    )  # fmt: skip


def asked(facts: Facts, session: CampaignSession, found: Proposal) -> Entry:
    """The journal's entry of a new proposal: with how its outcome is to be judged."""
    half = (found.high - found.low) / 2 / facts.widening
    exogenous = QUANTILE * facts.calibrated_factors[0] * session.exogenous_std
    judged = Judged(math.sqrt(max(half**2 - exogenous**2, 0.0)), facts.widening)
    return {"kind": "asked", "proposal": asdict(found), "judged": judged._asdict()}


def beliefs(facts: Facts, session: CampaignSession) -> list[Belief]:
    """What the policy thinks of every variable that it reads, but the target."""
    found = []
    parents = session.decide().parent_probability[0]
    for i, name in enumerate(facts.variables):
        if name == facts.target or not session.reads[i]:
            continue
        value, predicted, low, high = None, None, None, None
        if facts.domains[i] is not None:
            only = np.arange(len(facts.variables))[None] == i
            decision = session.decide(decision="outcome_head", optimism=0.0, allowed=only)
            value = float(decision.value[0])
            predicted, low, high = interval(facts, *expectation(facts, decision))
        found.append(Belief(name, float(parents[i]), value, predicted, low, high))
    return found


def check_is_read(facts: Facts, session: CampaignSession, variable: str) -> int:
    """The index of a variable, which must be one that the policy reads."""
    i = facts.variables.index(variable)
    if not session.reads[i]:
        raise AcboError(f"{variable!r} is not among the {MOST_VARIABLES} variables that the policy reads")
    return i


def answer(facts: Facts, session: CampaignSession, variable: str, value: float) -> Answer:
    """What is expected of an action that the user asks about.

    Raises:
        AcboError: the variable is not read, or numbers are too far apart.
    """
    i = check_is_read(facts, session, variable)
    cost, error, std = (float(x[0]) for x in session.predict(np.array([i]), np.array([value])))
    predicted, low, high = interval(facts, cost, error * facts.expectation_factor)
    _, measured_low, measured_high = interval(facts, cost, std * facts.outcome_factor)
    target = facts.observations[:, facts.target_index]
    baseline = float(target.mean()) if len(target) else None
    return Answer(variable, value, predicted, low, high, measured_low, measured_high, baseline)


def expectation(facts: Facts, decision: Decision) -> tuple[float, float]:
    """Expected cost under a decision, and the calibrated standard error of that."""
    return float(decision.outcome_mean[0]), float(decision.outcome_error[0]) * facts.expectation_factor


def interval(facts: Facts, cost: float, deviation: float) -> tuple[float, float, float]:
    """(target, low end, high end of its 90 % interval) of a cost with a Gaussian deviation."""
    low, high = sorted(facts.cost * (cost + side * QUANTILE * deviation) for side in (-1, 1))
    return facts.cost * cost, low, high


def _reason(facts: Facts, decision: Decision, settled: Decision) -> str:
    variable = facts.variables[int(decision.variable[0])]
    better = "highest" if facts.direction == "maximize" else "lowest"
    if decision.variable[0] == settled.variable[0] and decision.value[0] == settled.value[0]:
        return f"the {better} {facts.target} expected of anything not too far from what was seen"
    mean, error = expectation(facts, decision)
    reach = mean - QUANTILE * error
    return f"to learn: {variable} is little known, and {facts.target} could become {facts.cost * reach:.4g}"
