"""One iteration of learning: Group Relative Policy Optimization on interventions.

`rollout` plays whole episodes, `loss` holds advantages, the loss and its gradient, `optim` Adam and
the schedules, and `update` puts them together. A backend has all of it again.

May import: the ground, config, systems and policy.
"""
