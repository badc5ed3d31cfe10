"""The invariants of the trunk over rows, for every backend installed, as properties, and the heads.

Shapes are distinct primes where they can be, so that a transposed axis cannot pass.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acbo_fast import available, backend_maker, backend_pieces
from acbo_ref.backend import ReferenceBackend
from acbo_ref.config import PolicyConfig
from acbo_ref.policy import heads, layers, network, row_trunk
from acbo_ref.policy.acquisition import ACQUISITION_FEATURES
from acbo_ref.policy.decoder import RowDecoder
from acbo_ref.policy.evidence import CENTRE, EVIDENCE_CHANNELS, PATH_EFFECT, SLOPE_START
from acbo_ref.policy.inputs import OUTCOME_BOUND, attention_mask
from acbo_ref.policy.layers import MASKED
from acbo_ref.verify.data import ROWS, perturbed_state, small_config

E, O, K, V = 2, 5, 3, 7
CONFIG = small_config(dtype="float64", policy=ROWS, grpo={"learned_decisions": None})
PARAMS = perturbed_state(ReferenceBackend(CONFIG)).params
C = network.num_channels(CONFIG.policy)
NAMES = ("logits", "means", "parent_logits", "hidden")
# Rounding only: float64 sums in another order.
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def output(outputs, name):
    """One of NAMES."""
    return np.asarray(getattr(outputs.outcome if name == "hidden" else outputs, name))


class _Forward:
    """forward(inputs) of one backend, compiled at most once a shape."""

    def __init__(self, name):
        self._backend = backend_maker(name)(CONFIG)

    def __call__(self, inputs, num_decisions=K):
        if self._backend.name == "ref":
            return network.forward(PARAMS, CONFIG.policy, inputs, num_decisions)[0]
        return backend_pieces(self._backend.name)["forward"](self._backend, PARAMS, inputs, num_decisions)


FORWARDS = {name: _Forward(name) for name in available()}


@pytest.fixture(params=available())
def forward(request):
    return FORWARDS[request.param]


def random_inputs(seed, num_vars=V, num_obs=O):
    rng = np.random.default_rng(seed)
    channels = rng.standard_normal((E, num_obs + K, num_vars, C))
    valid = np.ones((E, num_vars), bool)
    choosable = rng.random((E, num_vars)) < 0.7
    choosable[:, 0] = True
    observation_mask = np.ones((E, num_obs), bool)
    observation_mask[1, num_obs // 2 :] = False
    mask, no_evidence = attention_mask(observation_mask, K), np.zeros((E, K, num_vars, 0))
    return network.PolicyInputs(channels, no_evidence, no_evidence, valid, choosable, np.zeros(E, int), mask)


def change(inputs, **arrays):
    return inputs._replace(**arrays)


def same(a, b, select=lambda x: x):
    for name in NAMES:
        np.testing.assert_allclose(select(output(a, name)), output(b, name), err_msg=name, **CLOSE)


seeds = st.integers(0, 2**16)


@given(seed=seeds)
def test_permuting_variables_permutes_the_outputs(forward, seed):
    inputs = random_inputs(seed)
    order = np.random.default_rng(seed).permutation(V)
    permuted = change(
        inputs,
        channels=inputs.channels[:, :, order],
        valid=inputs.valid[:, order],
        choosable=inputs.choosable[:, order],
    )
    same(forward(inputs), forward(permuted), lambda x: x[:, :, order])


@given(seed=seeds)
def test_permuting_observational_rows_changes_nothing(forward, seed):
    inputs = random_inputs(seed)
    order = np.concatenate([np.random.default_rng(seed).permutation(O), O + np.arange(K)])
    permuted = change(inputs, channels=inputs.channels[:, order], row_mask=inputs.row_mask[:, order][:, :, order])
    same(forward(inputs), forward(permuted))


@given(seed=seeds)
def test_padding_variables_and_rows_changes_nothing(forward, seed):
    inputs = random_inputs(seed)
    rng = np.random.default_rng(seed + 1)
    channels = np.concatenate([inputs.channels, 100 * rng.standard_normal((E, O + K, 2, C))], axis=2)
    blank = np.zeros((E, 2), bool)
    wide = change(
        inputs,
        channels=channels,
        evidence=np.zeros((E, K, V + 2, 0)),
        acquisition=np.zeros((E, K, V + 2, 0)),
        valid=np.concatenate([inputs.valid, blank], axis=1),
        choosable=np.concatenate([inputs.choosable, blank], axis=1),
    )
    same(forward(wide), forward(inputs), lambda x: x[:, :, :V])
    junk = 100 * rng.standard_normal((E, 4, V, C))
    observation_mask = inputs.row_mask[:, -1, :O]
    longer = change(
        inputs,
        channels=np.concatenate([inputs.channels[:, :O], junk, inputs.channels[:, O:]], axis=1),
        row_mask=attention_mask(np.concatenate([observation_mask, np.zeros((E, 4), bool)], axis=1), K),
    )
    same(forward(longer), forward(inputs))


@given(seed=seeds)
def test_episodes_do_not_touch_each_other(forward, seed):
    inputs = random_inputs(seed)
    channels = inputs.channels.copy()
    channels[1] = np.random.default_rng(seed + 1).standard_normal(channels[1].shape)
    a, b = forward(inputs), forward(change(inputs, channels=channels))
    for name in NAMES:
        np.testing.assert_allclose(output(a, name)[0], output(b, name)[0], **CLOSE)
        assert not np.allclose(output(a, name)[1], output(b, name)[1])


@given(seed=seeds, row=st.integers(1, K - 1))
def test_the_future_never_leaks(forward, seed, row):
    inputs = random_inputs(seed)
    channels = inputs.channels.copy()
    channels[:, O + row] += 1.0
    a, b = forward(inputs), forward(change(inputs, channels=channels))
    for name in NAMES:
        np.testing.assert_allclose(output(a, name)[:, :row], output(b, name)[:, :row], **CLOSE)
        assert not np.allclose(output(a, name)[:, row:], output(b, name)[:, row:])


def test_what_cannot_be_chosen_is_masked(forward):
    inputs = random_inputs(0)
    logits = forward(inputs).logits
    masked = np.broadcast_to(~inputs.choosable[:, None], logits.shape)
    assert (logits[masked] == MASKED).all() and np.abs(logits[~masked]).max() < 1e3


def test_no_observational_rows(forward):
    outputs = forward(random_inputs(0, num_obs=0))
    assert all(np.isfinite(output(outputs, name)).all() for name in NAMES)


@settings(max_examples=5)
@given(seed=seeds)
def test_decoding_row_by_row_equals_one_pass(seed):
    inputs = random_inputs(seed)
    mask = inputs.row_mask[:, -1, :O]
    decoder = RowDecoder(PARAMS, CONFIG.policy, inputs.channels[:, :O], mask, inputs.valid, K)
    h = []
    for k in range(K):
        decoder.peek(np.random.default_rng(seed).standard_normal((E, V, C)))  # a peek leaves no trace
        h.append(decoder.append(inputs.channels[:, O + k]).h)
    stepwise, _ = heads.heads_forward(
        PARAMS, CONFIG.policy, np.stack(h, axis=1), inputs.choosable, inputs.evidence, inputs.acquisition
    )
    same(stepwise, network.forward(PARAMS, CONFIG.policy, inputs, K)[0])


def test_parameters_start_as_documented():
    config = PolicyConfig("simple_permutation_invariant", hidden_dim=64)
    params = network.init_params(config, seed=3)
    assert {k: v.shape for k, v in params.items()} == network.parameter_shapes(config)
    # a standard deviation of n normals is known to 1 / sqrt(2 n)
    up, out = params["blocks.0.mlp.up.weight"], params["blocks.0.attention.out.weight"]
    assert up.std() == pytest.approx(1 / 8, rel=5 / np.sqrt(2 * up.size))
    assert out.std() == pytest.approx(1 / 8 / np.sqrt(8), rel=5 / np.sqrt(2 * out.size))
    assert abs(params["policy_head.out.weight"]).max() < 0.01
    assert all((v == 0).all() for k, v in params.items() if k.endswith("bias"))
    again = network.init_params(config, seed=3)
    assert all((again[k] == v).all() for k, v in params.items())
    assert (network.init_params(config, seed=4)["embed.weight"] != params["embed.weight"]).any()


def test_the_parameters_of_both_trunks_are_counted():
    """Rows: C D + D + L (12 D^2 + 13 D) + 2 D + heads 3 (D^2 / 2 + D / 2) + 4 D + 3.5 D + 7.

    Pairs: P D + D, a block of 4 D^2 + 4 D (factors), 8 D^2 + 2 D (up), 2 D^2 + D (down), 12 D^2
    (variables), norms 2 D + 4 D; final norm 4 D; heads on 2 D: 3 (2 D^2 + D) + 8 D + 7 D + 7, the
    acquisition 15 (D + 2), the trust 5 (2 D + 1), the length 2 D + 1, and the edge head
    2 D + 2 D + 2.
    """
    d, layers = 64, 4
    rows = 5 * d + layers * (12 * d**2 + 13 * d) + 2 * d + 3 * (d * d // 2 + d // 2) + 7 * d + d // 2 + 7
    pairs = (
        44 * d
        + layers * (26 * d**2 + 13 * d)
        + 4 * d
        + 3 * (2 * d**2 + d)
        + 15 * d
        + 7
        + 15 * (d + 2)
        + 6 * (2 * d + 1)
    )
    pairs += 4 * d + 2
    for architecture, expected in (("simple_permutation_invariant", rows), ("pairwise", pairs)):
        shapes = network.parameter_shapes(PolicyConfig(architecture, hidden_dim=d))
        assert sum(int(np.prod(s)) for s in shapes.values()) == expected


def test_the_predicted_outcome_goes_through_where_a_variable_stands():
    """A trust of 1 in a path effect b, all else 0: the prediction is b (u - centre)."""
    config = PolicyConfig("pairwise", hidden_dim=8, num_layers=1)
    params = {name: np.zeros_like(value) for name, value in network.init_params(config, 0).items()}
    params["outcome_head.trust.bias"] = np.array(SLOPE_START)
    evidence = np.zeros((1, 1, 1, EVIDENCE_CHANNELS))
    evidence[..., PATH_EFFECT], evidence[..., CENTRE] = np.arcsinh(0.7), np.arcsinh(0.2)
    outcome, _ = heads.state_forward(params, np.zeros((1, 16)), evidence[0, 0])
    state = heads.OutcomeState(*(np.array([array[0]] * 3) for array in outcome))
    mean = heads.outcome_forward(params, state, np.array([-5.0, 1.0, 5.0]))[0].mean
    np.testing.assert_allclose(
        mean, 0.7 * np.array([-1.2, 0.0, 0.8]), rtol=1e-3, atol=1e-12
    )  # the effect is softly bounded


def test_value_features_by_hand():
    u = np.array([-1.0, 0.3, 0.5])
    harmonics = [np.sin(np.pi * u), np.cos(np.pi * u), np.sin(2 * np.pi * u), np.cos(2 * np.pi * u)]
    d = (u - 0.1) / 0.2
    distance = [np.log(d + np.sqrt(d**2 + 1)), np.log(np.sqrt(1 + d**2))]
    expected = np.stack([u, u**2, *harmonics, *distance], axis=-1)
    np.testing.assert_allclose(heads.value_features(5 * u, 0.1, 0.2), expected, atol=1e-15)
    half_way = [0.5, 0.25, 1.0, 0.0, 0.0, -1.0, np.arcsinh(2.0), 0.5 * np.log(5.0)]
    assert heads.value_features(np.array(2.5), 0.1, 0.2) == pytest.approx(half_way)


def test_parameters_start_as_described():
    config = PolicyConfig("simple_permutation_invariant", hidden_dim=64, num_layers=8)
    params = network.init_params(config, 3)
    for name, value in params.items():
        if name.endswith(".scale"):
            assert (value == 1).all(), name
        elif name.endswith(".bias"):
            assert not value.any(), name
    # fan-in 256 and two residual branches in each of 8 blocks; fan-in 64 without
    assert params["blocks.5.mlp.down.weight"].std() == pytest.approx(1 / 16 / 4, rel=0.05)
    assert params["blocks.5.attention.out.weight"].std() == pytest.approx(1 / 8 / 4, rel=0.05)
    assert params["blocks.5.mlp.up.weight"].std() == pytest.approx(1 / 8, rel=0.05)


def test_what_the_pairwise_trunk_adds_starts_as_described():
    """The policy head follows the lowest bound: -10 times the gap to it, at its value; a trust of 1
    in the path effect, whatever h is; the same length for all.
    """
    params = network.init_params(PolicyConfig("pairwise", hidden_dim=8, num_layers=2, use_fixed_std=False), 3)
    direct = params["policy_head.acquisition.weight"]
    assert {(int(i), int(j)): direct[i, j] for i, j in np.argwhere(direct)} == {(0, 0): -10.0, (5, 1): 1.0}
    assert not params["policy_head.out.weight"].any()
    assert params["outcome_head.trust.bias"].tolist() == [0, 0, 0, 1, 0]
    for name in ("outcome_head.trust.weight", "outcome_head.length.weight", "outcome_head.length.bias"):
        assert not params[name].any()
    for name in ("edge_head.out.weight", "outcome_head.out.weight", "parent_head.out.weight"):
        assert 0 < np.abs(params[name]).max() < 0.02


def test_sizes_of_what_is_read():
    rows, pairs = PolicyConfig("simple_permutation_invariant", hidden_dim=8), PolicyConfig("pairwise", hidden_dim=8)
    assert [network.evidence_size(config) for config in (rows, pairs)] == [0, EVIDENCE_CHANNELS]
    assert [network.acquisition_size(config) for config in (rows, pairs)] == [0, ACQUISITION_FEATURES]
    assert [network.state_size(config) for config in (rows, pairs)] == [8, 16]
    assert [network.num_channels(config) for config in (rows, pairs)] == [4, 43]


def test_every_variable_reads_the_valid_ones_and_itself():
    mask = row_trunk.variable_mask(np.array([[True, True, False]]))
    assert mask.shape == (1, 1, 1, 3, 3)
    assert mask[0, 0, 0].astype(int).tolist() == [[1, 1, 0], [1, 1, 0], [1, 1, 1]]


def test_variables_read_each_other(forward):
    """One variable's channels in one observational row change what is said of every other
    variable.
    """
    inputs, before = random_inputs(3), None
    for shift in (0.0, 0.5):
        inputs.channels[0, 1, 2, 0] += shift
        after = np.asarray(forward(inputs).parent_logits)
        if before is not None:
            assert (np.abs(after[0] - before[0]) > 1e-8).all() and (after[1] == before[1]).all()
        before = after


def test_over_rows_there_is_no_slope_and_no_centre():
    config = CONFIG.policy
    params = network.init_params(config, 3, np.float32)
    assert {value.dtype for value in params.values()} == {np.dtype("float32")}
    inputs = random_inputs(4)
    channels = inputs.channels.astype(np.float32)
    outputs, cache = network.forward(params, config, inputs._replace(channels=channels), K)
    hidden, slope, centre, spread, log_length = outputs.outcome
    assert (spread == np.float32(0.2)).all()
    assert (log_length == np.float32(np.log(0.5))).all()
    assert hidden.shape == (E, K, V, config.hidden_dim // 2) and hidden.dtype == np.float32
    assert slope.shape == centre.shape == (E, K, V) and not slope.any() and not centre.any()
    grads: dict[str, np.ndarray] = {}
    network.backward(params, config, outputs, cache, grads)
    assert {value.dtype for value in grads.values()} == {np.dtype("float32")}
    decoder = RowDecoder(params, config, channels[:, :O], np.ones((E, O), bool), inputs.valid, K)
    assert decoder.append(channels[:, O]).h.dtype == np.float32


def test_blocks_over_rows_by_their_formula():
    """Attention over variables in block 0 and over rows in block 1, softmax by softmax, of two
    heads; the states are those of the last rows.
    """
    config = PolicyConfig("simple_permutation_invariant", hidden_dim=4, num_layers=2, num_heads=2)
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(shape) for name, shape in network.parameter_shapes(config).items()}
    rows, valid = 4, np.array([True, True, False])
    mask = attention_mask(np.array([[True, False]]), rows - 2)

    def linear(name, x):
        return x @ params[name + ".weight"] + params[name + ".bias"]

    def norm(name, x):
        x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
        return x * params[name + ".scale"] + params[name + ".bias"]

    def attention(name, x, readable):
        """x (N, D); readable (N, N)."""
        qkv = linear(name + ".qkv", x)
        out = np.zeros_like(x)
        for head in (slice(0, 2), slice(2, 4)):
            q, k, v = (part[:, head] for part in np.split(qkv, 3, axis=1))
            weight = np.where(readable, np.exp(q @ k.T / np.sqrt(2)), 0.0)
            out[:, head] = weight / weight.sum(axis=1, keepdims=True) @ v
        return linear(name + ".out", out)

    channels = rng.standard_normal((1, rows, 3, C))
    x = linear("embed", channels[0])
    for block in range(2):
        name, normed = f"blocks.{block}", norm(f"blocks.{block}.norm1", x)
        if block == 0:
            readable = valid | np.eye(3, dtype=bool)
            x = x + np.stack([attention(name + ".attention", normed[row], readable) for row in range(rows)])
        else:
            every = [attention(name + ".attention", normed[:, variable], mask[0]) for variable in range(3)]
            x = x + np.stack(every, axis=1)
        up = linear(name + ".mlp.up", norm(name + ".norm2", x))
        x = x + linear(name + ".mlp.down", layers.gelu_forward(up)[0])
    h, _ = row_trunk.trunk_forward(params, config, channels, valid[None], mask, 2)
    np.testing.assert_allclose(h[0], norm("final_norm", x)[-2:], atol=1e-12)


@pytest.mark.parametrize("fixed", [True, False])
def test_heads_by_their_formula(fixed):
    """Everything that is said of a variable, from the acquisition features as well, and of an
    action.
    """
    config = PolicyConfig("pairwise", hidden_dim=4, num_layers=2, use_fixed_std=fixed, fixed_std=0.7)
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(shape) for name, shape in network.parameter_shapes(config).items()}
    h, evidence = rng.standard_normal((1, 1, 2, 8)), rng.standard_normal((1, 1, 2, EVIDENCE_CHANNELS))
    acquisition = rng.standard_normal((1, 1, 2, ACQUISITION_FEATURES))
    said, _ = heads.heads_forward(params, config, h, np.array([[True, False]]), evidence, acquisition)

    def linear(name, x):
        return x @ params[name + ".weight"] + params[name + ".bias"]

    def two_layers(name, x):
        return linear(name + ".out", layers.gelu_forward(linear(name + ".hidden", x))[0])

    for i in range(2):
        state, known = h[0, 0, i], evidence[0, 0, i]
        effects = known[[0, 2, 4, 5, 6]]
        features = acquisition[0, 0, i]
        policy = two_layers("policy_head", np.concatenate([state, np.arcsinh(features)]))
        policy = policy + features @ params["policy_head.acquisition.weight"]
        assert said.logits[0, 0, i] == (pytest.approx(policy[0]) if i == 0 else MASKED)
        assert said.means[0, 0, i] == pytest.approx(6 * np.tanh(5 * policy[1] / 6))
        if not fixed:
            assert said.log_stds[0, 0, i] == pytest.approx(np.log(0.7) + 3 * np.tanh(policy[2] / 3))
        assert said.parent_logits[0, 0, i] == pytest.approx(two_layers("parent_head", state)[0])
        outcome = heads.OutcomeState(*(array[0, 0, i] for array in said.outcome))
        assert outcome.hidden == pytest.approx(linear("outcome_head.hidden", state))
        slope = linear("outcome_head.trust", state) @ (OUTCOME_BOUND * np.tanh(np.sinh(effects) / OUTCOME_BOUND))
        assert outcome.spread == pytest.approx(np.sinh(known[7]) / 5 if known[7] > 0 else 0.2)
        assert outcome.slope == pytest.approx(slope) and outcome.centre == pytest.approx(np.sinh(known[8]))
        length = np.log(4) * np.tanh(linear("outcome_head.length", state)[0] / np.log(4))
        assert outcome.log_length == pytest.approx(np.log(0.5) + length)
        found, _ = heads.outcome_forward(params, outcome, np.array(-1.5))
        features = heads.value_features(np.array(-1.5), outcome.centre, outcome.spread)
        hidden = outcome.hidden + features @ params["outcome_head.value.weight"]
        out = linear("outcome_head.out", layers.gelu_forward(hidden)[0])
        assert found.mean == pytest.approx(5 * out[0] + slope * (-0.3 - np.sinh(known[8])))
        assert list(found[1:]) == pytest.approx(3 * np.tanh(out[1:] / 3))
    assert (said.log_stds is None) == fixed and said.edge_logits is None
