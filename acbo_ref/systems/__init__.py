"""What is unknown: structural causal models.

`batch` holds many models as arrays (simulation, effects, the oracle), `scm` one model with named
variables, `functional` models made of Python functions. `files` reads and writes models; `graphs`
and `prior` sample them. A backend has `batch` again.

May import: the ground (errors, randomness, arrays, files) and config.
"""
