"""Evidence: what least squares says of every variable's effect on the target, from the moments.

With u = standard value / 5 (so a domain is [-1, 1]), y = standard target, and the rows seen so far,
for each variable i:

    marginal effect        ridge regression of y on u_i, with intercept, over the observational rows
                           and the rows in which i was set: b = S_uy / (S_uu + l1), its error s /
                           sqrt(S_uu + l1), s^2 the residual variance
    interventional effect  the same over the rows in which i was set alone, through the
                           observational mean (0 without such rows): b = sum du dy / (sum du^2 +
                           l2), with du and dy the deviations from that mean, which no confounder
                           can bend; and 1 / sqrt(sum du^2 + l2), which is its error if the noise is
                           1 and the mean is known, and says in any case how much i was set
    direct effect          coefficient of u_i in the ridge regression of y on all variables
                           together, over all rows. Nobody sets the target, so its own mechanism is
                           the same in all of them; the coefficient is a causal effect only where
                           the target has no children among the variables and no hidden common
                           causes
    path effect            sum_k m_ik direct_k, with m_ik the slope of u_k on u_i over i's rows as
                           above, confounding included (path coefficients, Wright 1921). Over the
                           same rows it equals the marginal effect but for the penalties
                           (omitted-variable formula); what it gains is that direct effects know all
                           rows
    ordered effect         coefficient of u_i in the ridge regression of y on u_i and all variables
                           of smaller spread, over the observational rows: the total effect, if
                           spreads grow along the causal order, as they do in raw models
                           (sortnregress, Reisach et al. 2021)
    spread                 standard deviation of the standard value over the observational rows: how
                           far the variable moves by itself, and (raw models) how far down the
                           causal order it stands (Reisach et al. 2021)
    centre                 mean of u_i over the observational rows, or the nearest end of the domain
                           if that lies outside: where the variable stands by itself

Each is passed as asinh(x), which keeps small numbers and tames large ones. Ridge regression: Hoerl
& Kennard 1970.

The outcome head is a residual on top of these (Silver et al. 2018, "Residual Policy Learning"):
its slope b is the sum of the effects, each times the trust that the network puts in it, which
starts as "the path effect is right", and its prediction starts as b (u - centre): a variable left
where it is changes nothing. Both are trained like all else.

Contract: pure functions of arrays; data, not parameters, so no gradient passes through here.
Letters: E episodes, V variables, F channels.
"""

from __future__ import annotations

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.policy.inputs import HALF_WIDTH, OUTCOME_BOUND
from acbo_ref.policy.moments import Moments, Sums, centred, spreads

EVIDENCE_CHANNELS = 9
# Which of them are effects: marginal, interventional, direct, path, ordered; and which ones are
# the spread and the centre.
PATH_EFFECT, SPREAD, CENTRE = 5, 7, 8
DIRECT_EFFECT = 4
EFFECTS = [0, 2, DIRECT_EFFECT, PATH_EFFECT, 6]
# Ridge penalties: of the marginal and the interventional regression, in squared half domains, and
# of the joint one, in rows of unit variance.
MARGINAL_PENALTY, INTERVENTIONAL_PENALTY, JOINT_PENALTY = 1e-3, 0.1, 1.0
# The residual variance starts from this many rows of variance 1.
VARIANCE_ROWS = 1.0
# Spreads that differ by less than this share count as equal.
EQUAL_SPREADS = 1e-6
# The slope of the predicted outcome is a sum of the five effects, each times the trust that
# the outcome head puts in it; this is the trust to start with.
SLOPE_START = tuple(float(effect == PATH_EFFECT) for effect in EFFECTS)


def slope_features(evidence: Array) -> Array:
    """(..., F) evidence channels -> (..., 5): the effects themselves, softly bounded by
    OUTCOME_BOUND.
    """
    return np.asarray(OUTCOME_BOUND * np.tanh(np.sinh(evidence[..., EFFECTS]) / OUTCOME_BOUND))


def centre_feature(evidence: Array) -> Array:
    """(..., F) evidence channels -> (...): the centre."""
    return np.asarray(np.sinh(evidence[..., CENTRE]))


def spread_feature(evidence: Array) -> Array:
    """(..., F) evidence channels -> (...): the spread in half domains; one standard unit where a
    variable does not vary.
    """
    spread = np.sinh(evidence[..., SPREAD])
    return np.asarray(np.where(spread > 0, spread, 1.0) / HALF_WIDTH)


def evidence_channels(moments: Moments[Array], centre: Array, ordered: Array, target: Array, valid: Array) -> Array:
    """The channels after the rows of `moments`, (E, V, F); zero for the target and for padding.

    Args:
        centre: (E, V) observational mean of u: where deviations are measured from.
        ordered: (E, V) see `ordered_effect`; only the observational rows have a say in it.
        target: (E,) int.
        valid: (E, V) bool.
    """
    observed, own = moments.observed, moments.own
    width = valid.shape[1]
    each = np.arange(len(target))
    used = valid & (np.arange(width) != target[:, None])

    def of_target(array: Array) -> Array:
        """(E, V, V) -> (E, V), the column of the target."""
        return np.asarray(array[each, :, target])

    # Observational rows and those in which i was set, about their own mean: (E, i, j)
    count = np.maximum(observed.number[:, None] + own.number, 1.0)
    total = observed.total[:, None] + own.total
    of_i = np.diagonal(total, axis1=1, axis2=2)
    cross = observed.cross + own.cross - of_i[:, :, None] * total / count[:, :, None]
    square = np.diagonal(observed.cross, axis1=1, axis2=2)[:, None] + own.square - total**2 / count[:, :, None]
    precision = np.diagonal(square, axis1=1, axis2=2) + MARGINAL_PENALTY
    slopes = cross / precision[:, :, None]  # of u_k on u_i
    marginal, yy = HALF_WIDTH * of_target(slopes), HALF_WIDTH**2 * of_target(square)
    residual = yy - marginal * (2.0 * HALF_WIDTH * of_target(cross) - marginal * (precision - MARGINAL_PENALTY))
    variance = (np.maximum(residual, 0.0) + VARIANCE_ROWS) / (count + VARIANCE_ROWS)

    own_precision = np.diagonal(own.cross, axis1=1, axis2=2) + INTERVENTIONAL_PENALTY
    interventional = HALF_WIDTH * of_target(own.cross) / own_precision

    direct = HALF_WIDTH * _joint_regression(moments.whole, target, used)
    path = (slopes @ np.where(used, direct, 0.0)[:, :, None])[:, :, 0]
    known = [
        marginal, np.sqrt(variance / precision), interventional, 1.0 / np.sqrt(own_precision), direct, path, ordered,
        HALF_WIDTH * spreads(observed), np.clip(centre, -1.0, 1.0),
    ]  # fmt: skip
    return np.asarray(np.where(used[:, :, None], np.arcsinh(np.stack(known, axis=-1)), 0.0))


def _joint_regression(whole: Sums[Array], target: Array, used: Array) -> Array:
    """(E, V) coefficients of the ridge regression of u_target on all used variables, each scaled to
    unit variance.
    """
    spread = spreads(whole)
    spread = np.where(used & (spread > 0), spread, np.inf)  # a column that does not vary gets coefficient 0
    scatter = centred(whole)
    scaled = scatter / spread[:, :, None] / spread[:, None, :]
    right = scatter[np.arange(len(target)), :, target] / spread
    normal = scaled + JOINT_PENALTY * np.eye(scatter.shape[1])
    return np.asarray(np.linalg.solve(normal, right[..., None])[..., 0] / spread)


def ordered_effect(observed: Sums[Array], target: Array, valid: Array) -> Array:
    """(E, V) coefficient of u_i in the ridge regression of y on it and those of smaller spread.

    V regressions a system, each on its own columns: the others are masked out of the normal
    equations. Equal spreads (saturated variables have them) do not count as smaller, so that no tie
    is broken by position or by rounding.
    """
    width = valid.shape[1]
    identity = np.eye(width, dtype=bool)
    used = valid & (np.arange(width) != target[:, None])
    spread, scatter = spreads(observed), centred(observed)
    varies = used & (spread > 0)
    scale = np.where(varies, spread, np.inf)  # the others get coefficient 0
    scaled = scatter / scale[:, :, None] / scale[:, None, :]
    right = scatter[np.arange(len(target)), :, target] / scale
    smaller = spread[:, None, :] < spread[:, :, None] * (1.0 - EQUAL_SPREADS)  # (E, i, j)
    among = identity | (smaller & varies[:, None])
    normal = np.where(among[:, :, :, None] & among[:, :, None, :], scaled[:, None], 0.0)
    normal = normal + JOINT_PENALTY * identity
    coefficients = np.linalg.solve(normal, np.where(among, right[:, None], 0.0)[..., None])[..., 0]
    return np.asarray(HALF_WIDTH * np.diagonal(coefficients, axis1=1, axis2=2) / scale)
