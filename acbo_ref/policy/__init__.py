"""The policy: reads rows, thinks, decides.

`inputs` has the units, `moments` keeps sums of the rows, `pairs` and `evidence` say what they mean;
`reading` takes rows as they arrive. `layers`, the two trunks `pair_trunk` and `row_trunk`, `heads`
and `network` are the network, forward and backward; `decoder` is it one decision at a time.
`session` is what decides, `screening` narrows very wide systems first. A backend has all of it but
the last again.

May import: the ground, config and systems.
"""
