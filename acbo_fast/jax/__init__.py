"""The JAX backend: whole rollouts and whole updates as single compiled functions, gradients by
autodiff.

The modules are the twins of those of `acbo_ref` by name. What they compute is specified there;
shared are data types, configuration, initial parameters and, for deciding, the map to standard
units, so that agreement means something.
"""
