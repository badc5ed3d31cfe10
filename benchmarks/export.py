"""A weights-only copy of a checkpoint, as it ships: `python benchmarks/export.py RUN_FOLDER
OUTPUT.npz`; or the network of a config before training: `python benchmarks/export.py --untrained
CONFIG OUTPUT.npz`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from acbo_ref.config import load_config
from acbo_ref.training.checkpoint import load_checkpoint, save_checkpoint
from acbo_ref.training.trainer import Trainer

if __name__ == "__main__":
    *untrained, source, output = sys.argv[1:]
    checkpoint = Trainer(load_config(source)).checkpoint() if untrained else load_checkpoint(source)
    checkpoint.config = replace(checkpoint.config, name=Path(output).stem)
    parameters = sum(value.size for value in checkpoint.state.params.values())
    print(save_checkpoint(checkpoint, output, moments=False))
    print(f"{parameters} parameters, {Path(output).stat().st_size} bytes")
