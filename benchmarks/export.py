"""A weights-only copy of a checkpoint, as it ships: `python benchmarks/export.py RUN_FOLDER
OUTPUT.npz`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from acbo_ref.training.checkpoint import load_checkpoint, save_checkpoint

if __name__ == "__main__":
    checkpoint = load_checkpoint(sys.argv[1])
    checkpoint.config = replace(checkpoint.config, name=Path(sys.argv[2]).stem)
    parameters = sum(value.size for value in checkpoint.state.params.values())
    print(save_checkpoint(checkpoint, sys.argv[2], moments=False))
    print(f"{parameters} parameters, {Path(sys.argv[2]).stat().st_size} bytes")
