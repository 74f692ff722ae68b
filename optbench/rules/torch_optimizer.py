"""What our torch.optim optimizers share: checked groups, dense gradients, names, exact reloading."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch

from optbench.fields import hyper
from optbench.optimizer import Optimizer as Declared
from optbench.rules.arguments import OUT_OF_RANGE, Arguments, check, documented, takes
from optbench.rules.torch_shards import mapped

PARAMS = hyper(doc="parameters, pairs (name, parameter), or dicts of param groups")


class Leaf(NamedTuple):
    """One parameter that has a gradient, with its group, its state and its name."""

    param: torch.Tensor
    grad: torch.Tensor
    state: dict[str, Any]
    group: dict[str, Any]
    name: str


outside: Any = torch._disable_dynamo  # pyright: ignore[reportPrivateImportUsage]
"""Keeps a method out of what `torch.compile` makes of `step`.

Making states, drawing, and counting belong there: a number that changes from 0 to 1 to 2 is a graph each time.
`torch.compiler.disable` is the same, and imports the compiler with this module.
"""


class CheckedOptimizer(torch.optim.Optimizer):
    """A torch.optim optimizer that checks every group and reloads its state to the same bits.

    Subclasses declare their arguments (`optimizer`), make a parameter's state (`ready`), step it (`step_leaf`) or all
    (`advance`), list the attributes that a pickle must carry (`kept`) and the state entries that stay wider than the
    parameter (`wide_entries`).
    """

    owner: ClassVar[str]
    """Its name in messages."""
    kept: ClassVar[tuple[str, ...]] = ()
    wide_entries: ClassVar[tuple[str, ...] | None] = ()
    """None: all."""
    arguments: ClassVar[Arguments] = {}

    def __init__(self, params: Any, *values: Any, **options: Any):
        """`optimizer` puts a constructor in its place that takes the declared arguments."""
        self.build(params, **options)

    def build(self, params: Any, **options: Any) -> None:
        """Construct it from the arguments by name; what is left in `options` belongs to each group."""
        super().__init__(params, options)

    def check_group(self, group: dict[str, Any]) -> None:
        check(self.owner, self.arguments, group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = value_of(closure)
        self.advance(self.prepared())
        return loss

    @outside
    def prepared(self) -> list[Any]:
        """The leaves with their states made and their steps counted, as `advance` takes them."""
        leaves = list(self.leaves())
        for leaf in leaves:
            self.ready(leaf)
        return leaves

    def ready(self, leaf: Leaf) -> None:
        """Make the state of a leaf if it has none, and count its step."""

    def advance(self, leaves: list[Any]) -> None:
        for leaf in leaves:
            self.step_leaf(leaf)

    def step_leaf(self, leaf: Leaf) -> None:
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its own hyperparameters are checked as the constructor's are."""
        super().add_param_group(param_group)
        try:
            self.check_group(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    def names(self) -> dict[torch.Tensor, str]:
        """The name of each parameter, or its place among all; its place too where an earlier one has its name."""
        names: dict[str, torch.Tensor] = {}
        for group in self.param_groups:
            given = group.get("param_names") or [None] * len(group["params"])
            for param, name in zip(group["params"], given, strict=True):
                place = str(len(names))
                name = place if name is None else name
                names[f"{name}#{place}" if name in names else name] = param
        return {param: name for name, param in names.items()}

    def beside(self, *lists: Sequence[Any]) -> dict[torch.Tensor, tuple[Any, ...]]:
        """For each parameter, what stands in its place in lists in the groups' order."""
        every = [param for group in self.param_groups for param in group["params"]]
        return dict(zip(every, zip(*lists, strict=True), strict=True))

    def leaves(self) -> Iterator[Leaf]:
        """The parameters with entries that have a gradient, in order; a sparse or complex one is a RuntimeError."""
        names = self.names()
        for group in self.param_groups:
            for param in group["params"]:
                name = names[param]
                if param.grad is None or not param.numel():
                    continue
                if param.is_complex():
                    raise RuntimeError(
                        f"{self.owner}: parameter {name} is complex, which is not supported; give its real view, "
                        "torch.view_as_real(parameter)"
                    )
                if param.grad.is_sparse:
                    raise RuntimeError(
                        f"{self.owner}: the gradient of parameter {name} is sparse, which is not supported; "
                        "use sparse=False in the embedding, or give it another optimizer"
                    )
                yield Leaf(param, param.grad, self.state[param], group, name)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; entries that are kept wider than the parameter keep their dtype."""
        super().load_state_dict(state_dict)
        saved = [index for group in state_dict["param_groups"] for index in group["params"]]
        for param, (index,) in self.beside(saved).items():
            for key, value in state_dict["state"].get(index, {}).items():
                if self.wide_entries is None or key in self.wide_entries:
                    self.state[param][key] = mapped(
                        lambda x, at=param.device: x.detach().clone().to(at), value
                    )

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), **{name: getattr(self, name) for name in self.kept}}


C = TypeVar("C", bound=CheckedOptimizer)


def optimizer(declared: type[Declared], names: str, **others: Any) -> Callable[[type[C]], type[C]]:
    """Give a class its constructor, docstring, name and ranges; the arguments are those of `takes`."""

    def decorate(cls: type[C]) -> type[C]:
        def __init__(self: Any, params: Any, **options: Any) -> None:
            self.build(params, **options)

        made: Any = takes(declared, names, **others)(__init__)
        made.__qualname__ = f"{cls.__qualname__}.__init__"
        cls.__init__, cls.arguments = made, made.arguments
        cls.owner = vars(cls).get("owner", declared.name)
        errors = f"{OUT_OF_RANGE}\n    RuntimeError: a gradient is sparse."
        cls.__doc__ = documented(cls.__doc__, {"params": PARAMS, **cls.arguments}, errors)
        return cls

    return decorate


def zeros(param: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    return torch.zeros_like(param, dtype=dtype)


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def rounded(value: float, dtype: torch.dtype) -> float:
    return torch.tensor(value, dtype=dtype).item()


def value_of(closure: Callable[[], Any] | None) -> Any:
    """The closure's loss, evaluated with gradients on; None without a closure."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
