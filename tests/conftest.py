"""Tests run beside one another on small machines: one thread each is faster than two that wait for each other."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
