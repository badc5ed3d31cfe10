"""Evidence: what least squares says of every variable so far, as further input channels of the
later rows.

A transformer can learn to regress in context, but it spends much of its training on it, and ends
less exact than ten lines of least squares. These channels hand it the regressions, so that it
learns what they cannot tell: when not to believe them, what to try next, and where effects are not
monotone. `policy.evidence: none` leaves them out.

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

The policy and outcome heads are residuals on top of these (Silver et al. 2018, "Residual Policy
Learning"): features of the evidence also go straight to their outputs. The policy head's weights
start as "play the end that the largest path effect recommends"; the outcome head's slope b is the
sum of the effects, each times the trust that the network puts in it, which starts as "the path
effect is right", and its prediction starts as b (u - centre): a variable left where it is changes
nothing. Both are trained like all else.

Contract: pure functions of arrays; data, not parameters, so no gradient passes through here.
Letters: E episodes, N rows, V variables, F channels.
"""

from __future__ import annotations

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.policy.inputs import HALF_WIDTH, OUTCOME_BOUND

EVIDENCE_CHANNELS = 9
# Which of them are effects: marginal, interventional, direct, path, ordered; and which one is the
# centre.
PATH_EFFECT, CENTRE = 5, 8
EFFECTS = [0, 2, 4, PATH_EFFECT, 6]
# Ridge penalties: of the marginal and the interventional regression, in squared half domains, and
# of the joint one, in rows of unit variance.
MARGINAL_PENALTY, INTERVENTIONAL_PENALTY, JOINT_PENALTY = 1e-3, 0.1, 1.0
# The residual variance starts from this many rows of variance 1.
VARIANCE_ROWS = 1.0
# Spreads that differ by less than this share count as equal.
EQUAL_SPREADS = 1e-6
# How fast the direction of an effect saturates: an effect of 0.3 spreads of the target over half a
# domain gives 0.95.
DIRECTION_SLOPE = 6.0
RESIDUAL_FEATURES = EVIDENCE_CHANNELS + 2 * len(EFFECTS)
# Starting weights of (variable logit, value mean / 5): 4 asinh|path effect|, and -1.6 of its
# direction, which lies beyond the end of the domain, also once it is bounded
# (policy.VALUE_MEAN_BOUND), for effects above a quarter.
_PATH = EVIDENCE_CHANNELS + EFFECTS.index(PATH_EFFECT)
RESIDUAL_START = {"logit": (_PATH, 4.0), "mean": (_PATH + len(EFFECTS), -1.6)}


def residual_features(evidence: Array) -> Array:
    """(..., F) evidence channels -> (..., RESIDUAL_FEATURES): themselves, the sizes of the five
    effects, and their directions tanh(6 x)."""
    effects = evidence[..., EFFECTS]
    return np.concatenate([evidence, np.abs(effects), np.tanh(DIRECTION_SLOPE * effects)], axis=-1)


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


def evidence_channels(standard: Array, variable: Array, seen: Array, target: Array, valid: Array) -> Array:
    """The channels after these rows, (E, V, F); zero for the target and for padding.

    Args:
        standard: (E, N, V) rows in standard units, finite.
        variable: (E, N) int, the variable that was set in each row, -1 in observational rows.
        seen: (E, N) bool, the rows that count.
        target: (E,) int.
        valid: (E, V) bool.
    """
    width = standard.shape[2]
    u = standard / HALF_WIDTH
    y = np.take_along_axis(standard, target[:, None, None], axis=2)  # (E, N, 1)
    observed = (seen & (variable < 0))[:, :, None].astype(standard.dtype)
    own = (seen[:, :, None] & (variable[:, :, None] == np.arange(width))).astype(standard.dtype)  # (E, N, V)

    weight = observed + own
    count = np.maximum(weight.sum(axis=1), 1.0)
    du = u - ((weight * u).sum(axis=1) / count)[:, None]
    dy = y - ((weight * y).sum(axis=1) / count)[:, None]
    precision = (weight * du * du).sum(axis=1) + MARGINAL_PENALTY
    marginal = (weight * du * dy).sum(axis=1) / precision
    slopes = ((weight * du).swapaxes(1, 2) @ u) / precision[:, :, None]  # (E, V, V): of u_k on u_i
    residual = (weight * (dy - marginal[:, None] * du) ** 2).sum(axis=1)
    marginal_error = np.sqrt((residual + VARIANCE_ROWS) / (count + VARIANCE_ROWS) / precision)

    count = np.maximum(observed.sum(axis=1), 1.0)
    du = u - ((observed * u).sum(axis=1) / count)[:, None]
    dy = y - ((observed * y).sum(axis=1) / count)[:, None]
    spread = HALF_WIDTH * np.sqrt((observed * du * du).sum(axis=1) / count)
    centre = np.clip((observed * u).sum(axis=1) / count, -1.0, 1.0)
    precision = (own * du * du).sum(axis=1) + INTERVENTIONAL_PENALTY
    interventional = (own * du * dy).sum(axis=1) / precision
    interventional_error = 1.0 / np.sqrt(precision)

    direct = _joint_regression(u, y, seen, target, valid)
    path = (slopes @ direct[:, :, None])[:, :, 0]
    counts = valid & (np.arange(width) != target[:, None])
    ordered = _ordered_regression(observed * du, observed * dy, spread / HALF_WIDTH, counts)
    known = [marginal, marginal_error, interventional, interventional_error, direct, path, ordered, spread, centre]
    channels = np.arcsinh(np.stack(known, axis=-1))
    return np.asarray(np.where(counts[:, :, None], channels, 0.0))


def _joint_regression(u: Array, y: Array, seen: Array, target: Array, valid: Array) -> Array:
    """(E, V) coefficients of the ridge regression of y on all columns of u but the target, each
    scaled to unit variance.
    """
    width = u.shape[2]
    counts = valid & (np.arange(width) != target[:, None])
    weight = seen[:, :, None].astype(u.dtype)
    number = np.maximum(weight.sum(axis=1), 1.0)
    du = weight * (u - ((weight * u).sum(axis=1) / number)[:, None])
    dy = weight * (y - ((weight * y).sum(axis=1) / number)[:, None])
    spread = np.sqrt((du * du).sum(axis=1) / number)
    spread = np.where(counts & (spread > 1e-6), spread, np.inf)  # a column that does not vary gets coefficient 0
    scaled = du / spread[:, None]
    gram = scaled.swapaxes(1, 2) @ scaled + JOINT_PENALTY * np.eye(width)
    coefficient = np.linalg.solve(gram, scaled.swapaxes(1, 2) @ dy)[..., 0]
    return np.asarray(coefficient / spread)


def _ordered_regression(du: Array, dy: Array, spread: Array, counts: Array) -> Array:
    """(E, V) coefficient of each variable in the ridge regression of y on it and those of smaller
    spread.

    V regressions a system, each on its own columns: the others are masked out of the normal
    equations. Equal spreads (saturated variables have them) do not count as smaller, so that no tie
    is broken by position or by rounding.

    Args:
        du: (E, N, V) centred columns, zero in rows that do not count; dy: (E, N, 1).
        spread: (E, V) standard deviations of u; counts: (E, V) bool.
    """
    identity = np.eye(du.shape[2], dtype=bool)
    varies = counts & (spread > 1e-6)
    scale = np.where(varies, spread, np.inf)  # the others get coefficient 0
    scaled = du / scale[:, None]
    gram, right = scaled.swapaxes(1, 2) @ scaled, (scaled.swapaxes(1, 2) @ dy)[..., 0]
    smaller = spread[:, None, :] < spread[:, :, None] * (1.0 - EQUAL_SPREADS)  # (E, i, j)
    used = identity | (smaller & varies[:, None])
    normal = np.where(used[:, :, :, None] & used[:, :, None, :], gram[:, None], 0.0)
    normal = normal + JOINT_PENALTY * identity
    coefficients = np.linalg.solve(normal, np.where(used, right[:, None], 0.0)[..., None])[..., 0]
    return np.asarray(np.diagonal(coefficients, axis1=1, axis2=2) / scale)
