"""The JAX backend: whole rollouts and whole updates as single compiled functions, gradients by autodiff.

The modules are the twins of those of `acbo_ref` by name. What they compute is specified there; nothing is shared but the
data types and configuration, so that agreement means something.
"""
