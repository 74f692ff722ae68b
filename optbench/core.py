"""The older import path of what now lives in `cell`, `optimizer`, `task`, `protocol` and `fields`."""

from optbench.cell import Cell as Cell
from optbench.cell import Schedule as Schedule
from optbench.fields import UserError as UserError
from optbench.fields import hyper as hyper
from optbench.optimizer import Optimizer as Optimizer
from optbench.protocol import Counts as Counts
from optbench.protocol import Rule as Rule
from optbench.protocol import Setting as Setting
from optbench.protocol import Shapes as Shapes
from optbench.protocol import Step as Step
from optbench.task import Functions as Functions
from optbench.task import Target as Target
from optbench.task import Task as Task
from optbench.task import stream as stream
