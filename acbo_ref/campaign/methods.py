"""Another method than the policy in a campaign: any with the `ask`, `tell` and `recommend` of the
arena's (acbo_ref/arena/baselines.py).

A method keeps nothing between commands. It is begun anew with the same random numbers and told
every experiment in turn, so what it chooses follows from the journal.

Contract: functions of facts, a method and a session; writes nothing. What is said of a choice (its
expectation, its interval) is the policy's. Of the arena it knows the list of methods and nothing
else, and only once one is named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.campaign.bounds import Caution
from acbo_ref.campaign.facts import POLICY, Facts, Proposal, column_means
from acbo_ref.campaign.predictions import CampaignSession, check_is_read, domain_ends, proposed, task_of
from acbo_ref.errors import AcboError, did_you_mean
from acbo_ref.policy.exogenous import Told
from acbo_ref.policy.inputs import Task
from acbo_ref.randomness import Role, generator

Action = tuple[int, float]


class Method(Protocol):
    """A sequential decision maker that drives the target down."""

    def ask(self) -> Action: ...
    def tell(self, action: Action, row: Array) -> None: ...
    def recommend(self) -> Action: ...


MakeMethod = Callable[[Task, np.random.Generator], Method]
# Optuna learns from its own trials alone and could not be told what others did.
LEFT_OUT = ("optuna", "nothing")


def method_of(facts: Facts, given: MakeMethod | str | None) -> MakeMethod | None:
    """Who chooses: what was given, by name or itself, else the campaign's own; None for the policy.

    Raises:
        AcboError: no method of this name.
    """
    return named_method(facts.method) if given is None else named_method(given) if isinstance(given, str) else given


def named_method(name: str) -> MakeMethod | None:
    """A method of the arena; None for the policy.

    Raises:
        AcboError: none of this name can run a campaign.
    """
    if name == POLICY:
        return None
    from acbo_ref.arena.baselines import BASELINES

    known = [method for method in BASELINES if method not in LEFT_OUT]
    if name not in known:
        raise AcboError(f"no method {name!r} can run a campaign", did_you_mean(name, [POLICY, *known]))
    return BASELINES[name]


def check_method(make: MakeMethod | None, bounds: Caution, beside: bool) -> None:
    """Whether who chooses can do what was asked for. Only the policy keeps to bounds, and only it
    heeds what is pending where something is to be chosen `beside` that.

    Raises:
        AcboError: it cannot.
    """
    if make is not None and not bounds.bounds_nothing:
        raise AcboError(f"{name_of(make)} knows no bounds ({bounds})", "leave out --method, or lift the bounds")
    if make is not None and beside:
        raise AcboError(f"{name_of(make)} knows no pending experiments", "--method policy, or one at a time")


def proposal_by(facts: Facts, session: CampaignSession, make: MakeMethod) -> Proposal:
    """The experiment that the method would do next.

    Raises:
        AcboError: it would set nothing, or a variable that the policy cannot speak of.
    """
    method = told(facts, make)
    i, value = _allowed(facts, session, method.ask(), make)
    cost, _, std = (float(x[0]) for x in session.predict(np.array([i]), np.array([value])))
    parents = session.decide().parent_probability[0]
    reason = f"{name_of(make)} chose it; what to expect is the policy's word"
    return proposed(facts, i, value, cost, std * facts.outcome_factor, float(parents[i]), reason, False)


def settled_by(facts: Facts, session: CampaignSession, make: MakeMethod) -> Action:
    """What the method would settle on now, in the user's units.

    Raises:
        AcboError: as `proposal_by`.
    """
    return _allowed(facts, session, told(facts, make).recommend(), make)


def told(facts: Facts, make: MakeMethod) -> Method:
    """The method after every experiment in which one variable was set.

    It is asked before each, as if it had done them all. What it would have done itself it is told
    as its own; other actions it is told as they are, unless it has no place for them.
    """
    coordinates = facts.coordinates
    observed = _costs(facts, coordinates.rows(facts.observations))
    manipulable, low, high = domain_ends(facts)
    unknown = np.where(manipulable, (low + high) / 2, 0.0)
    filling = np.where(np.isnan(observed).all(axis=0), unknown, column_means(observed))
    task = task_of(facts, np.where(np.isnan(observed), filling, observed))
    method = _told_of_exogenous(facts, make, task, generator(int(facts.policy_sha256[:16], 16), Role.BASELINE))
    for id, record in facts.records.items():
        if not record.is_read or len(record.was_set) != 1:
            continue
        (i,) = record.was_set
        row = _costs(facts, coordinates.rows(np.array(record.row)))
        value = facts.proposals[id].value if id in facts.proposals else record.row[i]
        own = method.ask()
        is_own = own[0] == i and coordinates.distance(i, _outside(facts, own), value) < 1e-9
        action = own if is_own else (i, float(coordinates.inside(i, np.array(value))))
        try:
            method.tell(action, np.where(np.isnan(row), filling, row))
        except ValueError:  # arms are fixed values, and this is none of them
            continue
    return method


def _told_of_exogenous(facts: Facts, make: MakeMethod, task: Task, rng: np.random.Generator) -> Method:
    """The method on this task, which sees through what is exogenous."""
    if not facts.exogenous:
        return make(task, rng)
    return Told(task, facts.is_exogenous, lambda seen_through: make(seen_through, rng))


def name_of(make: MakeMethod) -> str:
    return str(getattr(make, "__name__", "the method"))


def _costs(facts: Facts, rows: Array) -> Array:
    """Rows in which the target is what is to be driven down."""
    sign = np.where(np.arange(rows.shape[-1]) == facts.target_index, facts.cost, 1.0)
    return np.asarray(rows * sign)


def _outside(facts: Facts, action: Action) -> float:
    """An action's value in the user's unit, at the nearest value that is allowed."""
    return float(facts.coordinates.outside(action[0], np.array([action[1]]))[0])


def _allowed(facts: Facts, session: CampaignSession, action: Action, make: MakeMethod) -> Action:
    """An action in the user's units."""
    if action[0] < 0:
        raise AcboError(f"{name_of(make)} would do nothing now", "ask the policy: --method policy")
    check_is_read(facts, session, facts.variables[action[0]])
    return action[0], _outside(facts, action)
