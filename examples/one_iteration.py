"""One iteration of learning, step by step, with every shape printed. NumPy only; it takes a few
seconds.

    python examples/one_iteration.py

The steps are those of `acbo_ref/grpo`, in its own functions: nothing here is a second version of
them.

    1  draw systems from the prior             acbo_ref/systems/prior.py
    2  observe them, and decide                acbo_ref/policy/session.py
    3  play whole episodes                     acbo_ref/grpo/rollout.py
    4  compare candidates: advantages          acbo_ref/grpo/loss.py
    5  the loss, and its gradient by hand      acbo_ref/grpo/loss.py, acbo_ref/policy/network.py
    6  one step of Adam                        acbo_ref/grpo/optim.py
    7  see that better candidates are likelier now

Letters: E episodes, O observational rows, K decisions, G candidates, N judged actions, V variables,
P = 32 channels of a pair.
"""

from __future__ import annotations

import numpy as np

from acbo_ref.config import config_from_dict
from acbo_ref.grpo.loss import advantages, log_prob_forward, loss_backward, loss_forward, loss_terms
from acbo_ref.grpo.noise import draw_noise
from acbo_ref.grpo.optim import adam_step, clip_by_global_norm, global_norm, init_state
from acbo_ref.grpo.rollout import observe, rollout
from acbo_ref.grpo.update import loss_weights, minibatch
from acbo_ref.policy.network import backward, forward, init_params
from acbo_ref.policy.session import Session
from acbo_ref.randomness import Role, generator
from acbo_ref.systems.prior import sample_scm
from acbo_ref.systems.scm import stack

CONFIG = config_from_dict(
    {
        "batch_size": 16,  # E
        "observations_per_episode": 10,  # O
        "interventions_per_episode": 5,  # K
        "policy": {"hidden_dim": 32, "fixed_std": 1.5},
        "grpo": {"group_size": 7, "minibatches": 1, "learning_rate": 1e-3},  # G
        "heads": {"probes": 4},  # N = G + 4
    }
)


def show(title: str, /, **arrays: object) -> None:
    """Print the shapes of arrays, or the value of a number."""
    print(title)
    for name, value in arrays.items():
        print(f"    {name:<16} {getattr(value, 'shape', value)}")


def main() -> None:
    # 1  Draw E systems: random graphs with random weights, side by side as arrays, padded to V
    # variables.
    rng = generator(CONFIG.seed, Role.SYSTEMS)
    kinds = ("chain", "fork", "collider", "erdos_renyi")
    models = [sample_scm(CONFIG.scm, kinds[e % 4], 3 + e % 3, rng) for e in range(CONFIG.batch_size)]
    systems = stack(models)
    edges = ", ".join(f"{i} -> {j} ({w:+.2f})" for (i, j), w in models[0].edges.items())
    show(
        f"1  {len(models)} systems; the first has the target {models[0].target}, and {edges}",
        weights=systems.weights,
        target=systems.target,
    )

    # 2  What an untrained policy knows and does: it sees O rows in which nothing was set, and
    # decides.
    width, rows = systems.weights.shape[1], CONFIG.observations_per_episode[1]
    noise = draw_noise(CONFIG, 0, rows, width)
    mask = np.ones((len(models), rows), bool)
    state = init_state(init_params(CONFIG.policy, CONFIG.seed))
    task = observe(systems, noise.observation, mask)
    decision = Session(state.params, CONFIG, task, capacity=1).decide()
    show(
        "2  observe and decide",
        observations=task.observations,
        variable=decision.variable,
        value=decision.value,
        parameters=sum(p.size for p in state.params.values()),
    )

    # 3  Play E episodes of K interventions. In each state G candidates are judged on the same
    # noise, so their rewards differ by what was done and by nothing else. Candidate 0 is carried
    # out: the policy reads its row next.
    played = rollout(state.params, CONFIG, systems, mask, noise, CONFIG.policy.fixed_std)
    show(
        "3  episodes: candidates (variable, value), their log-probability, and what they were worth",
        variable=played.variable,
        value=played.value,
        log_prob=played.log_prob,
        judged_outcome=played.judged_outcome,
        rewards=played.rewards,
        pairs=played.inputs.channels,
    )

    # 4  Group-relative advantages: A = (r - mean_g r) / (std_g r + 1e-4). No value network is
    # needed.
    advantage = advantages(played.rewards, CONFIG.grpo.scale_rewards)
    print("4  advantages of the first group")
    print(f"    rewards          {' '.join(f'{r:+.2f}' for r in played.rewards[0, 0])}")
    print(f"    advantages       {' '.join(f'{a:+.2f}' for a in advantage[0, 0])}")

    # 5  The loss of all decisions in one pass, and its gradient by hand: back through the loss to
    # the outputs of the heads, then back through heads and network to every parameter.
    inputs, batch = minibatch(played, advantage, np.arange(len(models)))
    weights = loss_weights(CONFIG, CONFIG.grpo.entropy_coefficient)
    outputs, forward_cache = forward(state.params, CONFIG.policy, inputs, batch.variable.shape[1])
    loss, terms, loss_cache = loss_forward(state.params, outputs, batch, weights)
    grads: dict[str, np.ndarray] = {}
    d_outputs = loss_backward(state.params, outputs, batch, weights, loss_cache, grads)
    backward(state.params, CONFIG.policy, d_outputs, forward_cache, grads)
    show("5  outputs of the heads", logits=outputs.logits, means=outputs.means, hidden=outputs.outcome.hidden)
    for name, coefficient in loss_terms(weights).items():
        print(f"    {coefficient:+.2f} x {name:<20} {terms[name]:+.4f}")
    print(f"    loss                         {loss:+.4f}")
    check_one_derivative(state.params, inputs, batch, weights, grads)

    # 6  One step of Adam on the gradient, clipped to a norm of 1.
    norm = global_norm(grads)
    clipped = clip_by_global_norm(grads, norm, CONFIG.grpo.gradient_clip)
    after = adam_step(state, clipped, CONFIG.grpo.learning_rate)
    show("6  Adam", gradient_norm=round(norm, 3), gradients=len(grads), step=after.step)

    # 7  Better candidates have become likelier: log-probabilities moved with their advantages.
    outputs, _ = forward(after.params, CONFIG.policy, inputs, batch.variable.shape[1])
    log_prob, _ = log_prob_forward(outputs, batch.variable, batch.value, batch.fixed_std)
    change = log_prob - batch.old_log_prob
    better, worse = change[advantage > 0].mean(), change[advantage < 0].mean()
    print(f"7  log-probability: better candidates {better:+.4f}, worse ones {worse:+.4f}")
    assert better > worse


def check_one_derivative(params: dict, inputs: object, batch: object, weights: object, grads: dict) -> None:
    """The gradient by hand against a difference quotient, for one weight; `acbo verify` does so for
    every parameter.
    """
    name, step = "embed.weight", 1e-5

    def loss_at(shift: float) -> float:
        moved = {**params, name: params[name].copy()}
        moved[name][0, 0] += shift
        outputs, _ = forward(moved, CONFIG.policy, inputs, batch.variable.shape[1])
        return loss_forward(moved, outputs, batch, weights)[0]

    numeric = (loss_at(step) - loss_at(-step)) / (2 * step)
    print(f"    d loss / d {name}[0, 0]: by hand {grads[name][0, 0]:+.6e}, by differences {numeric:+.6e}")


if __name__ == "__main__":
    main()
