"""What training changes, as it is saved in last.pt and restored from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ctnet import checkpoint
from ctnet.base.errors import CtnetError
from ctnet.model import CenterNet
from ctnet.training.optimization import MovingAverage, load_optimizer
from ctnet.training.state import DAMAGED, TrainingState


@dataclass(frozen=True)
class Learner:
    """A network and all that learns with it.

    Attributes:
        model: the network.
        optimizer, scaler: of its weights and of its losses.
        average: the moving average of its weights, if there is one.
        device: where it trains.
    """

    model: CenterNet
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: MovingAverage | None
    device: torch.device

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The weights to use: the moving average where there is one."""
        return self.model.state_dict() if self.average is None else self.average.weights

    @property
    def is_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        tensors = [tensor for tensor in self.model.state_dict().values() if tensor.is_floating_point()]
        return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())

    def state(self) -> dict[str, Any]:
        """All but ``weights``, with the state of the random generators: part of ``TrainingState``."""
        state: dict[str, Any] = {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
        }
        if self.average is not None:
            state |= {"weights": self.model.state_dict(), "updates": self.average.updates}
        if self.device.type == "cuda":
            state["cuda_random"] = torch.cuda.get_rng_state(self.device)
        return state

    def restore(self, weights: Mapping[str, Tensor], state: TrainingState) -> None:
        """Continue from what was saved.

        Args:
            weights: the weights to use, as ``weights``.
            state: the rest.

        Raises:
            CtnetError: when they do not belong to this network and optimizer.
        """
        checkpoint.load_weights(self.model, weights)
        if self.average is not None:
            if "updates" not in state or "weights" not in state:
                raise CtnetError(f"it has no moving average, which config.json requires; {DAMAGED}")
            self.average.load(weights, state["updates"])
            checkpoint.load_weights(self.model, state["weights"])
        load_optimizer(self.optimizer, state["optimizer"])
        try:
            self.scaler.load_state_dict(state["scaler"])
            torch.set_rng_state(state["random"])
            if "cuda_random" in state and self.device.type == "cuda":
                torch.cuda.set_rng_state(state["cuda_random"], self.device)
        except (RuntimeError, TypeError, KeyError) as error:
            raise CtnetError(f"its random or scaler state does not match ({error}); {DAMAGED}") from error
