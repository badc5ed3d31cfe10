"""The proof: `gradients` checks every hand-written gradient against finite differences, `parity` a
backend against the reference, number by number; `checks` says how errors are measured.

May import: everything but the arena and campaigns.
"""
