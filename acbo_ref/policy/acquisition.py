"""What the outcome head predicts over whole domains, the lowest of it, and what the policy head
gets of that.

Every variable is asked about at the values of a grid. The decision by the outcome head is the
lowest mean - c * error (`lowest_predicted`) of what is near enough (extrapolation.py) and not
expected to do harm (`hopeful`); c falls with the experiments that are left (`optimism_now`), as
what is learnt with the last one is of no use. The policy head is an acquisition function on the
same predictions: it sees, of every variable, the best value by that
bound and the best value by the mean, what is expected there and how well it is known, and how many
experiments are left. It starts as that very decision (ACQUISITION_START, and the zeros in which its
other layers begin) and learns by GRPO what else to go by.

Contract: pure functions of arrays. Predictions are data here: no gradient passes through them.
Letters: E episodes, V variables, G values of a grid, F features.
"""

from __future__ import annotations

import math
from typing import Any, Generic, NamedTuple

import numpy as np

from acbo_ref.arrays import A, Array, Params
from acbo_ref.policy.heads import VALUE_MEAN_BOUND, OutcomeState
from acbo_ref.policy.inputs import HALF_WIDTH
from acbo_ref.policy.local import Tried, predict_forward

# Standard values at which the outcome head is asked, ends of the domain included.
DECISION_GRID = np.linspace(-HALF_WIDTH, HALF_WIDTH, 41)
GRID_STEP = float(DECISION_GRID[1] - DECISION_GRID[0])
# The same in rollouts, where a coarser one is good enough.
ROLLOUT_GRID = DECISION_GRID[::4]
ROLLOUT_STEP = float(ROLLOUT_GRID[1] - ROLLOUT_GRID[0])
# `optimism` is what is subtracted with so many experiments left after this one.
USUAL_LEFT = 19
# An experiment may be expected to be worse than doing nothing by so many of its errors.
MOST_HARM = 0.25
# For the policy head, log(1 + n) of n experiments left is divided by that of so many.
MANY_LEFT = 50


class OnGrid(NamedTuple, Generic[A]):
    """Expectation of the target at every grid value of every variable, and its standard error; (E,
    V, G), standard units.
    """

    mean: A
    error: A


def predict_on_grid(params: Params, state: OutcomeState[Array], tried: Tried[Array], grid: Array) -> OnGrid[Array]:
    """What is predicted at the values of a grid (G,).

    Args:
        state: the outcome head's state in one decision, leading axes (E, V).
        tried: own outcomes, see local.py.
    """
    num_episodes, width, _ = state.hidden.shape
    grid = grid.astype(state.hidden.dtype)
    variable = np.tile(np.repeat(np.arange(width), grid.size), (num_episodes, 1))
    predicted, _ = predict_forward(params, state, tried, variable, np.tile(grid, (num_episodes, width)))
    shape = (num_episodes, width, grid.size)
    return OnGrid(predicted.mean.reshape(shape), np.exp(predicted.log_error).reshape(shape))


def lowest_predicted(
    predicted: OnGrid[Array], optimism: Array | float, allowed: Array, grid: Array
) -> tuple[Array, Array]:
    """The action with the lowest mean - optimism * error that is predicted on a grid.

    A lower confidence bound, as GP-UCB (Srinivas et al. 2010, eq. 6) for a minimum.

    Args:
        optimism: standard errors that are subtracted; a number, or (E,).
        allowed: (E, V, G) bool, or (E, V, 1) for all values of a variable alike.
    Returns:
        variable (E,) and standard value (E,).
    """
    errors = np.asarray(optimism, predicted.mean.dtype).reshape(-1, 1, 1)
    bound = np.where(allowed, predicted.mean - errors * predicted.error, np.inf)
    best = bound.reshape(len(bound), -1).argmin(axis=1)
    return best // grid.size, grid.astype(predicted.mean.dtype)[best % grid.size]


def optimism_now(optimism: float, left: A, xp: Any = np) -> A:
    """Standard errors to subtract with `left` experiments left after this one, of any shape:
    optimism log(1 + left) / log 20. xp: numpy, or jax.numpy for its arrays.
    """
    found: A = optimism / math.log1p(USUAL_LEFT) * xp.log1p(left)
    return found


def optimism_for_final(budget: int) -> float:
    """Standard errors to subtract, in every experiment of a whole budget, where only what is
    settled on in the end counts: log(budget) / 2, of whatever is near enough.
    """
    return 0.5 * math.log(max(budget, 1))


def hopeful(predicted: OnGrid[A], near: A, known: A, xp: Any = np) -> A:
    """(E, V, G) bool: which of the near values are not expected to do harm, mean <= error / 4, with
    0 the observational mean of the target; all of them where that is not known, or none is.

    The lower bound alone goes where the error is largest, also where the mean says that it ends
    badly; a variable of which nothing is known has a mean near 0 and stays.

    Args:
        known: (E,) bool, whether there are two observational rows.
    """
    harmless = near & (predicted.mean <= MOST_HARM * predicted.error)  # type: ignore[operator]
    use = harmless.any((1, 2)) & known
    found: A = xp.where(use[:, None, None], harmless, near)
    return found


# ------------------------------------------------------------------ what the policy head gets of it

# Of each variable: the gap between its lowest bound and the lowest of all, and the error there;
# the same of its lowest mean; the lowest mean of all; the two values; what is left; and products.
ACQUISITION_FEATURES = 15
_GAP, _VALUE = 0, 5
# Starting weights of (variable logit, value mean / 5): the logit falls by 10 for each standard unit
# that the bound is worse than the best one, and the value is that of the bound.
ACQUISITION_START = {"logit": (_GAP, -10.0), "mean": (_VALUE, 1.0)}


def acquisition_features(predicted: OnGrid[A], optimism: A, allowed: A, grid: Array, left: A, xp: Any = np) -> A:
    """What the policy head gets of each variable, (E, V, F); zero for variables that cannot be set.

    With m_i(u) and e_i(u) the predicted mean and error, u_i the minimiser of b_i = m_i - c e_i and
    w_i that of m_i, and s = log(1 + n) / log 51 of the n experiments left after this one:

        g = b_i(u_i) - min_j b_j,   e_i(u_i),   h = m_i(w_i) - min_j m_j,   e_i(w_i),   min_j m_j,
        u_i,   w_i,   s,   1 / (1 + n),   s times each of g, e_i(u_i), h, e_i(w_i), u_i, w_i

    Values x are passed as 6 artanh(x / 6) / 5, of which the policy head makes x again
    (VALUE_MEAN_BOUND is 6).

    Args:
        optimism: (E,) c, standard errors.
        allowed: (E, V, G) bool.
        left: (E,) experiments left after this one.
        xp: numpy, or jax.numpy for its arrays.
    """
    can_be_set = allowed.any(-1)  # type: ignore[attr-defined]
    unbounded = VALUE_MEAN_BOUND / HALF_WIDTH * np.arctanh(grid / VALUE_MEAN_BOUND)
    values = xp.asarray(unbounded, predicted.mean.dtype)  # type: ignore[attr-defined]

    def best(errors: A) -> tuple[A, A, A, A]:
        """(gap, lowest bound of all, error, value) at each variable's minimiser; errors (E, 1)."""
        bound = predicted.mean - errors[..., None] * predicted.error  # type: ignore[index]
        at = xp.where(allowed, bound, xp.inf).argmin(-1)
        mean, error = (xp.take_along_axis(array, at[..., None], -1)[..., 0] for array in predicted)
        low = xp.where(can_be_set, mean - errors * error, xp.inf)
        lowest = low.min(-1, keepdims=True)
        return xp.where(can_be_set, low - lowest, 0), lowest, error, values[at]

    some = xp.asarray(optimism, predicted.mean.dtype)[:, None]  # type: ignore[attr-defined]
    gap, _, error, value = best(some)
    mean_gap, lowest, mean_error, mean_value = best(0 * some)
    steps = xp.asarray(left, predicted.mean.dtype)[:, None]  # type: ignore[attr-defined]
    share, inverse = xp.log1p(steps) / math.log1p(MANY_LEFT), 1 / (1 + steps)
    own = [gap, error, mean_gap, mean_error]
    shared = [xp.broadcast_to(number, gap.shape) for number in (lowest, share, inverse)]  # type: ignore[attr-defined]
    products = [share * number for number in (*own, value, mean_value)]
    features = xp.stack([*own, shared[0], value, mean_value, *shared[1:], *products], -1)
    found: A = xp.where(can_be_set[..., None], features, 0)
    return found
