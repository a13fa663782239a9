"""One thread: these tensors are small, and threads that wait for each other on a busy machine cost tens of seconds."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
