"""The policy: reads rows, thinks, decides.

`inputs` maps rows to standard units and channels, `evidence` adds running regressions, `reading`
takes rows as they arrive. `layers`, `network` and `heads` are the network, forward and backward;
`decoder` is the network one row at a time. `session` is what decides. A backend has all of it
again.

May import: the ground, config and systems.
"""
