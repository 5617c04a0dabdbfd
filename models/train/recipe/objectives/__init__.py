"""Training objectives, one class each; ``[distill] objective`` chooses one by name."""

from recipe.objectives.base import Objective, Targets
from recipe.objectives.eulerian import MeanFlow, MeanFlowF2D2
from recipe.objectives.flow_matching import FlowMatching
from recipe.objectives.lagrangian import LagrangianF2D2
from recipe.objectives.regression import Shards, TrajectoryRegression
from recipe.objectives.semigroup import Shortcut, ShortcutDistillF2D2, ShortcutF2D2

OBJECTIVES: dict[str, type[Objective]] = {
    "flow-matching": FlowMatching,
    "shortcut": Shortcut,
    "shortcut-f2d2": ShortcutF2D2,
    "shortcut-distill-f2d2": ShortcutDistillF2D2,
    "meanflow": MeanFlow,
    "meanflow-f2d2": MeanFlowF2D2,
    "lsd-f2d2": LagrangianF2D2,
    "trajectory-regression": TrajectoryRegression,
}

__all__ = ["OBJECTIVES", "FlowMatching", "Objective", "Shards", "Targets", "TrajectoryRegression"]
