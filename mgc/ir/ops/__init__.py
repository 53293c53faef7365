"""The level-1 ops. One class an op: its fields, type rule, NumPy meaning, ONNX form and batch rule."""

from mgc.ir.ops.diff_block import DiffBlock
from mgc.ir.ops.elementwise import Binary, Cast, Unary, Where
from mgc.ir.ops.gradients import ConvWeightGrad
from mgc.ir.ops.gradients_gather import ScatterAdd
from mgc.ir.ops.gradients_pool import AveragePoolGrad, MaxPoolGrad, MaxPoolPick
from mgc.ir.ops.host import Host
from mgc.ir.ops.linear import AxisMap, Conv, ConvTranspose, MatMul
from mgc.ir.ops.loss_table import LossTable
from mgc.ir.ops.norm import BatchNorm
from mgc.ir.ops.pool import Pool
from mgc.ir.ops.random import Random
from mgc.ir.ops.reduce import Reduce
from mgc.ir.ops.shape import Concat, Detach, Expand, Gather, Pad, Reshape, Slice, Transpose
from mgc.ir.ops.update import Adam, AdamW, RmsProp, Sgd, Update

__all__ = [
    "Adam",
    "AdamW",
    "AveragePoolGrad",
    "AxisMap",
    "BatchNorm",
    "Binary",
    "Cast",
    "Concat",
    "Conv",
    "ConvTranspose",
    "ConvWeightGrad",
    "Detach",
    "DiffBlock",
    "Expand",
    "Gather",
    "Host",
    "LossTable",
    "MatMul",
    "MaxPoolGrad",
    "MaxPoolPick",
    "Pad",
    "Pool",
    "Random",
    "Reduce",
    "Reshape",
    "RmsProp",
    "ScatterAdd",
    "Sgd",
    "Slice",
    "Transpose",
    "Unary",
    "Update",
    "Where",
]
