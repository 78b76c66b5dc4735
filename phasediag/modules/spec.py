"""The spec of a study of torch modules: the keys of its TOML file, and the messages for mistakes."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from ..phase_diagram.spec import PlaneSpec
from ..spec.tables import MAX_WIDTH, POSITIVE, Count, Number, Table, Text, explain, shown

_RATE = '"auto", a finite number above 0, or a table {factor, exponent} of the width'


GIVEN = frozenset({"width", "gamma", "gamma_prime", "seed"})
"""Names of the arguments that a job gives to the function."""
Argument = bool | int | Number | Text | tuple[bool | int | Number | Text, ...]
"""What a function may be called with."""


class RateSpec(Table):
    """A learning rate that depends on the width m: factor * m^exponent."""

    factor: Number = Field(gt=0.0, description="a finite number above 0")
    exponent: Number = Field(ge=-10.0, le=10.0, description="a number from -10 to 10")


def _readable_rate(value: Any) -> Any:
    """A learning rate as it is written, or the message for what is none."""
    if isinstance(value, dict):
        try:
            return RateSpec.model_validate(value)
        except ValidationError as error:
            raise ValueError(explain(RateSpec, error.errors(include_url=False))) from None
    number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
    if value != "auto" and not number and not isinstance(value, RateSpec):
        raise ValueError(f"{shown(value)} is not supported; allowed: {_RATE}")
    return value


class NetworkSpec(Table):
    """The networks: what a function returns.

    `factory` is called with width, gamma, gamma_prime and seed, or with those of them that are names of its arguments, and returns a
    torch.nn.Module; `arguments` are further ones, by name. Its package is looked for in the folder of the spec, in the working directory,
    and among installed ones. Every trainable parameter of two or more dimensions is a layer. `layers` and `code`, the names of the layers
    and a hash of the code, are written by phasediag.
    """

    factory: Text = Field(min_length=3, description='"package.module:function"')
    arguments: dict[Text, Argument] = Field(
        default={}, description="a table of numbers, texts, true or false, and lists of them"
    )
    layers: tuple[Text, ...] = Field(default=(), description="names of parameters; programs write this key")
    code: str = Field(default="", strict=True, description="a hash; programs write this key")

    @field_validator("arguments")
    @classmethod
    def _further(cls, arguments: dict[str, Argument]) -> dict[str, Argument]:
        if taken := sorted(GIVEN & arguments.keys()):
            raise ValueError(
                f"{taken[0]} is not supported, [grid] has it; allowed: other names than {', '.join(sorted(GIVEN))}"
            )
        return arguments


class TrainSpec(Table):
    """How networks are trained.

    `gd` takes steps on all points, `sgd` and `adam` on minibatches of `batch_size`, in an order that the seed decides. `learning_rate` is a
    number, or a table {factor, exponent}: factor * m^exponent. With "auto", which belongs to gd, each network takes steps of half the
    inverse curvature that move no layer by more than a tenth of itself. A run has converged when its loss is at most `loss_tolerance` times
    the loss of f = 0 (log K for K classes). It ends after `epochs` passes over the data in any case. The `loss` is the cross-entropy of
    classes, and the mean square of numbers (mse).
    """

    method: Literal["gd", "sgd", "adam"] = Field(default="gd", description="gd, sgd, adam")
    learning_rate: Annotated[Literal["auto"] | Number | RateSpec, BeforeValidator(_readable_rate)] = Field(
        default="auto", description=_RATE
    )
    epochs: Count = Field(default=5000, description=POSITIVE)
    batch_size: Count = Field(default=128, description=POSITIVE)
    loss: Literal["mse", "cross-entropy"] = Field(default="mse", description="mse, cross-entropy")
    loss_tolerance: Number = Field(default=1e-3, gt=0.0, lt=1.0, description="a number between 0 and 1")

    @model_validator(mode="after")
    def _step_of_method(self) -> TrainSpec:
        if self.learning_rate == "auto" and self.method != "gd":
            raise ValueError(
                f'learning_rate: "auto" is not supported with the method {self.method}; '
                "allowed: a finite number above 0, or a table {factor, exponent} of the width"
            )
        return self

    def rate(self, width: int) -> float | None:
        """The learning rate at a width; None where gd chooses its steps."""
        rate = self.learning_rate
        if isinstance(rate, RateSpec):
            scaled: float = rate.factor * float(width) ** rate.exponent
            return scaled
        return None if rate == "auto" else float(rate)


class Spec(PlaneSpec):
    """A study of torch modules as written in its file, with every default filled in."""

    kind: Literal["module"] = Field(description="module")
    network: NetworkSpec
    train: TrainSpec = Field(default_factory=dict, validate_default=True)

    @field_validator("train", mode="before")
    @classmethod
    def _loss_of_data(cls, value: Any, info: Any) -> Any:
        """Classes have the cross-entropy, numbers the mean square."""
        if not isinstance(value, dict) or "data" not in info.data or "loss" in value:
            return value
        classes = getattr(info.data["data"], "targets", "") == "class"
        return {**value, "loss": "cross-entropy" if classes else "mse"}

    @model_validator(mode="after")
    def _loss_fits_data(self) -> Spec:
        classes = getattr(self.data, "targets", "") == "class"
        if classes and self.train.loss == "mse":
            raise ValueError(
                'train.loss: mse is not supported with classes (data.targets = "class"); '
                "allowed: cross-entropy, or targets that are numbers"
            )
        if not classes and self.train.loss == "cross-entropy":
            raise ValueError(
                "train.loss: cross-entropy is not supported with targets that are numbers; "
                'allowed: mse, or data.targets = "class"'
            )
        return self

    @model_validator(mode="after")
    def _own_plane(self) -> Spec:
        if any("gamma_1" in grid.model_fields_set for grid in self.grids):
            raise ValueError(
                "grid.gamma_1: is not supported here, it belongs to kind phase-diagram; allowed: no such key"
            )
        widest = max(max(grid.width) for grid in self.grids)
        if widest > MAX_WIDTH:
            raise ValueError(f"grid.width: {widest} is not supported; allowed: up to {MAX_WIDTH}")
        return self

    def document(self) -> dict[str, Any]:
        document = super().document()
        for grid in (document["grid"], *document.get("more_grids", ())):
            del grid["gamma_1"]
        return document
