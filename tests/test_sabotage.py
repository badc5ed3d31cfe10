"""Each check has teeth: with one number wrong, exactly the check that is named after it fails.

The reference plays the backend, once for each name, with that one output off by a thousandth; its
pieces are the reference's own functions.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from acbo_ref.backend import ReferenceBackend
from acbo_ref.grpo import loss
from acbo_ref.grpo.update import loss_and_gradient
from acbo_ref.policy import layers
from acbo_ref.policy.heads import LOG_STD_BOUND, OutcomePrediction
from acbo_ref.policy.local import Tried, predict_forward
from acbo_ref.policy.network import forward
from acbo_ref.policy.session import Decision, Prediction
from acbo_ref.verify import gradients, parity
from acbo_ref.verify.data import small_config

CONFIG = small_config(dtype="float64", policy={"use_fixed_std": False}, heads={"commit_by_outcome_head": 0.5})

PIECES = {
    "linear": lambda backend, *a: layers.linear_forward(*a)[0],
    "layer_norm": lambda backend, *a: layers.layer_norm_forward(*a)[0],
    "gelu": lambda backend, *a: layers.gelu_forward(*a)[0],
    "soft_bound": lambda backend, x: layers.soft_bound_forward(x, LOG_STD_BOUND)[0],
    "attend": lambda backend, *a: layers.attend_forward(*a)[0],
    "mlp": lambda backend, *a: layers.mlp_forward(*a)[0],
    "log_prob": lambda backend, *a: loss.log_prob_forward(*a)[0],
    "entropy": lambda backend, *a: loss.entropy_forward(*a)[0],
    "parent_loss": lambda backend, *a: loss.parent_loss_forward(*a)[0],
    "edge_loss": lambda backend, *a: loss.edge_loss_forward(*a)[0],
    "parent_entropy": lambda backend, *a: loss.parent_entropy(*a),
    "predict": lambda backend, *a: np.stack(predict_forward(*a)[0][:3]),
    "outcome_loss": lambda backend, *a: loss.outcome_loss_forward(OutcomePrediction(*a[:3], a[2]), *a[3:])[0],
    "clipped_objective": lambda backend, *a: loss.clipped_objective_forward(*a)[0],
    "advantages": lambda backend, *a: loss.advantages(*a),
    "forward": lambda backend, params, inputs, steps: forward(params, backend.config.policy, inputs, steps)[0],
    "loss_and_gradient": lambda backend, params, inputs, batch, weights: loss_and_gradient(
        params, backend.config, inputs, batch, weights
    ),
}


def off(array):
    """The array with its largest entry off by a thousandth; a whole number, by one; a truth turned
    over.
    """
    array = np.array(array)
    entry = np.unravel_index(np.abs(array).argmax(), array.shape)
    if array.dtype.kind == "b":
        array[entry] = not array[entry]
        return array
    array[entry] = array[entry] * 1.001 if array.dtype.kind == "f" and array[entry] else array[entry] + 1
    return array


def failed(checks):
    return [check.name for check in checks if not check.okay]


def test_nothing_fails_unharmed():
    backend = ReferenceBackend(CONFIG)
    assert failed(parity.piece_checks(backend, PIECES)) == []
    assert failed(parity.network_checks(backend, PIECES, CONFIG, "", 1e-12, 1e-10)) == []
    assert failed(parity.rollout_checks(backend, PIECES, CONFIG, "")) == []
    assert failed(parity.decision_checks(backend, CONFIG, "")) == []


@pytest.mark.parametrize("name", [name for name in PIECES if name not in ("forward", "loss_and_gradient")])
def test_a_wrong_piece_fails_by_its_name(name):
    pieces = {**PIECES, name: lambda backend, *a: off(PIECES[name](backend, *a))}
    found = failed(parity.piece_checks(ReferenceBackend(CONFIG), pieces))
    assert found and {check.split(",")[0] for check in found} == {name}


def wrong_output(outputs, name):
    if name == "logits":
        logits = np.array(outputs.logits)
        choosable = logits > layers.MASKED / 2
        logits[choosable] += 0.001
        return outputs._replace(logits=logits)
    if name == "masked logits":  # a sentinel that is finite, and still very low
        return outputs._replace(logits=np.where(outputs.logits > layers.MASKED / 2, outputs.logits, -1e9))
    if name.startswith("outcome "):
        field = name.removeprefix("outcome ")
        return outputs._replace(outcome=outputs.outcome._replace(**{field: off(getattr(outputs.outcome, field))}))
    return outputs._replace(**{name: off(getattr(outputs, name))})


def network_names():
    """Every check of the network but the terms', by the reference itself."""
    checks = parity.network_checks(ReferenceBackend(CONFIG), PIECES, CONFIG, "", 1e-12, 1e-10)
    return [check.name for check in checks]


NAMES = network_names()


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_number_of_the_network_fails_by_its_name(name):
    pieces = dict(PIECES)
    if name.startswith(("term ", "gradient of ")):

        def wrong(backend, *arguments):
            total, terms, grads = PIECES["loss_and_gradient"](backend, *arguments)
            if name == "term loss":
                return total + 0.001, terms, grads
            if name.startswith("term "):
                return total, {**terms, name[5:]: terms[name[5:]] + 0.001}, grads
            return total, terms, {**grads, name[12:]: off(grads[name[12:]])}

        pieces["loss_and_gradient"] = wrong
    else:
        pieces["forward"] = lambda *a: wrong_output(PIECES["forward"](*a), name)
    assert failed(parity.network_checks(ReferenceBackend(CONFIG), pieces, CONFIG, "", 1e-12, 1e-10)) == [name]


# What the one-pass forward is computed from: it notices as well.
ALSO = {name: ["one pass = step by step"] for name in ("variable", "value", "log_prob", "channels", "acquisition")}
TRIED = tuple(f"tried {name}" for name in Tried._fields)
ROLLOUT = (*parity._PLAYED, *TRIED, "causes", "channels", "evidence", "acquisition")


@pytest.mark.parametrize("name", [*ROLLOUT, "one pass = step by step"])
def test_a_wrong_number_of_a_rollout_fails_by_its_name(name):
    class Wrong(ReferenceBackend):
        def rollout(self, *arguments):
            played = super().rollout(*arguments)
            if name in TRIED:
                field = name.removeprefix("tried ")
                return played._replace(tried=played.tried._replace(**{field: off(getattr(played.tried, field))}))
            if name in ("channels", "evidence", "acquisition"):
                inputs = played.inputs._replace(**{name: off(getattr(played.inputs, name))})
                return played._replace(inputs=inputs)
            if name == "variable":  # stays a choice that exists
                variable = np.array(played.variable)
                choosable = np.flatnonzero(played.inputs.choosable[0])
                variable[0, 0, 0] = next(i for i in choosable if i != variable[0, 0, 0])
                return played._replace(variable=variable)
            return played._replace(**{name: off(getattr(played, name))})

    pieces = dict(PIECES)
    if name not in ROLLOUT:

        def moved(*arguments):  # every mean, since a single one may be of a variable that no candidate has
            outputs = PIECES["forward"](*arguments)
            return outputs._replace(means=outputs.means * 1.001)

        pieces["forward"] = moved
    backend = Wrong(CONFIG) if name in ROLLOUT else ReferenceBackend(CONFIG)
    found = failed(parity.rollout_checks(backend, pieces, CONFIG, ""))
    assert found == [name, *ALSO.get(name, [])]


WAYS = ("policy head", "policy head, sampled", "policy head, restricted", "outcome head", "outcome head, restricted")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Decision)])
def test_a_wrong_number_of_a_decision_fails_by_its_name(way, name):
    class Wrong(ReferenceBackend):
        def session(self, *arguments):
            session = super().session(*arguments)
            plain = session.decide

            def decide(**settings):
                kind = settings["decision"].replace("_", " ")
                kind += ", sampled" if "gumbel" in settings else ", restricted" if "allowed" in settings else ""
                decision = plain(**settings)
                return (
                    dataclasses.replace(decision, **{name: off(getattr(decision, name))}) if kind == way else decision
                )

            session.decide = decide
            return session

    assert failed(parity.decision_checks(Wrong(CONFIG), CONFIG, "")) == [f"{way}: {name}"]


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Prediction)])
def test_a_wrong_prediction_fails_by_its_name(name):
    class Wrong(ReferenceBackend):
        def session(self, *arguments):
            session = super().session(*arguments)
            plain = session.predict
            session.predict = lambda *asked: dataclasses.replace(
                plain(*asked), **{name: off(getattr(plain(*asked), name))}
            )
            return session

    assert failed(parity.decision_checks(Wrong(CONFIG), CONFIG, "")) == [f"predict: {name}"]


def test_wrong_training_fails_by_its_name():
    class WrongMetric(ReferenceBackend):
        def update(self, *arguments):
            state, diagnostics = super().update(*arguments)
            return state, {**diagnostics, "entropy": diagnostics["entropy"] + 1e-6}

    class WrongParameters(ReferenceBackend):
        def to_host(self, state):
            host = super().to_host(state)
            return host._replace(params={name: off(value) for name, value in host.params.items()})

    class NotANumber(ReferenceBackend):
        """In the last of the parameters only."""

        def to_host(self, state):
            host = super().to_host(state)
            last = list(host.params)[-1]
            return host._replace(params={**host.params, last: host.params[last] * np.nan})

    assert failed(parity.training_checks(NotANumber(CONFIG), CONFIG, "")) == ["parameters at the end"]
    found = failed(parity.training_checks(WrongMetric(CONFIG), CONFIG, ""))
    assert len(found) == 1 and found[0].startswith("metrics of")
    assert failed(parity.training_checks(WrongParameters(CONFIG), CONFIG, "")) == ["parameters at the end"]


def test_every_wrong_gradient_fails_by_its_name(monkeypatch):
    """Each array's gradient alone off by a ten-thousandth of its size: its check fails, and the one
    with the right gradient does not.
    """
    plain, seen = gradients.check_gradients, []

    def both(group, function, arrays, grads, rng):
        for name, array in arrays.items():
            given = np.asarray(grads[name])
            wrong = given + 1e-4 * max(float(np.abs(given).max()), 1e-3)
            (check,) = plain(group, function, {name: array}, {name: wrong}, rng)
            (right,) = plain(group, function, {name: array}, {name: given}, rng)
            seen.append((group, name, check.okay, right.okay))
        yield from ()

    monkeypatch.setattr(gradients, "check_gradients", both)
    (
        list(gradients.layer_checks())
        + list(gradients.term_checks())
        + list(gradients.local_checks())
        + list(gradients.policy_checks(CONFIG, "policy"))
    )
    assert len(seen) > 60
    assert [s for s in seen if s[2] or not s[3]] == []
