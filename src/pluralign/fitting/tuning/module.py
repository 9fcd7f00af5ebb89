"""The backbone with a head on it as one module, from the numbers of units to their losses.

In: a backbone whose weights are open, a head, and problems by name. Out: losses. All tensors of the head that
are trained are parameters here; the others are constants.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pluralign.errors import ConfigError
from pluralign.fitting.tuning.problem import Problem
from pluralign.heads import Head

if TYPE_CHECKING:
    from pluralign.backbones import Backbone, Embeddings

__all__ = ["TunedModule"]

_STEEP = 1e6  # times the median scale of the columns


class TunedModule(nn.Module):
    """A backbone and a head.

    Args:
        backbone: with trainable weights.
        head: its start; not changed.
        trained: names of its tensors that are trained.
        problems: by name, such as `train` and `held_out`.
        embedded: embeddings of each problem's texts by the backbone as it is, of which only the columns that
            do not depend on its weights are used.
        max_tokens: maximum tokens of a padded batch of the model.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        trained: Sequence[str],
        problems: Mapping[str, Problem],
        embedded: Mapping[str, Embeddings],
        max_tokens: int | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.model = backbone.model
        self.head = _opened(head, trained).to(self.model.device)
        self.problems = dict(problems)
        self._like = head
        self._max_tokens = max_tokens
        self._steep = _steep_columns(self.head)
        size = backbone.pooled_size
        self._columns = {name: one.response[:, size:] for name, one in embedded.items()}
        self._texts = {name: backbone.read(one.conversations) for name, one in problems.items()}

    @property
    def config(self) -> Any:
        """The configuration of the model."""
        return self.model.config

    def forward(self, row: Int[Tensor, " B"], part: str = "train") -> Float[Tensor, " B"]:
        """Losses of units of a part; NaN where a vector is not finite. A shared text is run once."""
        problem = self.problems[part]
        units = problem.units[row.cpu()]
        texts, inverse = torch.unique(units, return_inverse=True)
        vectors = self._vectors(part, texts)[inverse.to(row.device)]
        lost = ~vectors.isfinite().flatten(1).all(1)  # losses refuse NaN; the loop names the units
        if bool(lost.any()):
            return torch.where(lost, torch.nan, 0.0)
        if self._steep is not None:
            vectors = torch.where(self._steep, vectors.detach(), vectors)
        with torch.autocast(row.device.type, enabled=False):  # heads compute in float32
            return problem.losses(self.head, vectors, row)

    def _vectors(self, part: str, texts: Tensor) -> Tensor:
        known = self._texts[part]
        pooled = self.backbone.pooled([known[i] for i in texts.tolist()], self._max_tokens)
        columns = self._columns[part]
        if not columns.shape[1]:
            return pooled
        return torch.cat([pooled, columns[texts].to(pooled)], 1)

    def checkpoint_gradients(self) -> None:
        """Lets the model compute activations again in the backward pass.

        Raises:
            ConfigError: the model cannot.
        """
        try:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        except (AttributeError, ValueError) as error:
            raise ConfigError(
                f"gradient_checkpointing: {type(self.model).__name__} does not support it ({error}); leave "
                "it out"
            ) from error

    def trainable(self) -> dict[str, nn.Parameter]:
        """What is trained, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def freeze_unused(self) -> list[str]:
        """Stops training what has no part in the loss, such as a pooler; returns its names."""
        self.train()
        self(torch.zeros(1, dtype=torch.long, device=self.model.device)).sum().backward()
        unused = [name for name, p in self.trainable().items() if p.grad is None]
        for name in unused:
            self.get_parameter(name).requires_grad_(False)
        self.zero_grad(set_to_none=True)
        return unused

    def state(self) -> dict[str, Tensor]:
        """A copy of what is trained, on the CPU."""
        return {name: p.detach().cpu().clone() for name, p in self.trainable().items()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Sets what is trained."""
        for name, p in self.trainable().items():
            p.copy_(state[name])

    def finished_head(self) -> Head:
        """The head with what it has learned, of the same kind as the one that was given."""
        new = type(self._like).from_spec(self._like.spec())
        new.load_state_dict({name: tensor.detach().cpu() for name, tensor in self.head.state_dict().items()})
        device = next(iter(self._like.state_dict().values())).device
        return new.to(device).requires_grad_(False).eval()


def _opened(head: Head, trained: Sequence[str]) -> Head:
    """A copy of a head in which some tensors are parameters."""
    own = copy.deepcopy(head).requires_grad_(False)
    for name in trained:
        place, _, last = name.rpartition(".")
        module = own.get_submodule(place)
        tensor = getattr(module, last).detach().clone()
        module._buffers.pop(last, None)
        module._parameters.pop(last, None)
        setattr(module, last, nn.Parameter(tensor))
    return own


def _steep_columns(head: Any) -> Tensor | None:
    """Columns through which no gradient may flow back, [D]; None if there are none.

    Some models have a few columns of a size of 1e-28 (MiniLM three, by its last normalisation). A head scales
    them up like all others, and the gradient of what made them so small would be 1e27 times that of the rest.
    """
    scale = head.scaling.inverse_scale
    steep = scale > _STEEP * scale[scale > 0].median() if bool((scale > 0).any()) else scale > 0
    return steep if bool(steep.any()) else None
