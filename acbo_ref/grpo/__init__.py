"""One iteration of learning: Group Relative Policy Optimization on interventions.

`noise` draws what an episode needs, `rollout` plays whole episodes, `credit` says what a decision
is rewarded for, `loss` holds advantages, the loss and its gradient, `optim` Adam and the
schedules, and `update` puts them together. A backend has its own of all but `noise` and `credit`.

May import: the ground, config, systems and policy.
"""
