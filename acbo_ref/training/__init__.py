"""The loop around learning, written once for every backend.

`trainer` is the loop, `curriculum` says which systems come when, `measure` what is measured of an
episode, `advice` what is conspicuous. `run_folder` and `checkpoint` are the files of a run.

May import: everything up to and with backend.
"""
