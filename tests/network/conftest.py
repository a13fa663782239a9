"""The tests of networks run on one thread: tensors are small, and threads would wait for each other."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
