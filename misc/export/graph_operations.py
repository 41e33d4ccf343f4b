"""What frozen graphs and SavedModels may do: compute, and nothing else.

Such files are programs. TensorFlow has operations that read and write files, speak to servers and
call Python; a file that holds one is refused before any of it runs.
"""

import math

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

# What networks on images are made of, TensorFlow 1's graphs among them.
_OPERATIONS = """
    Abs Acos Acosh Add AddN AddV2 AdjustContrastv2 AdjustHue AdjustSaturation All Any ArgMax
    ArgMin Asin Asinh Assert Atan Atan2 Atanh AvgPool AvgPool3D BatchMatMul BatchMatMulV2
    BatchMatMulV3 BatchToSpace BatchToSpaceND BiasAdd BiasAddV1 Bincount Bitcast BitwiseAnd
    BitwiseOr BitwiseXor BroadcastArgs BroadcastGradientArgs BroadcastTo Case Cast Ceil
    CheckNumerics CheckNumericsV2 ClipByValue Complex ComplexAbs Concat ConcatOffset ConcatV2
    Conj Const ControlTrigger Conv2D Conv2DBackpropInput Conv3D Cos Cosh CropAndResize Cross
    Cumprod Cumsum DataFormatDimMap DataFormatVecPermute DenseBincount DepthToSpace
    DepthwiseConv2dNative Diag DiagPart Dilation2D DisableCopyOnRead Div DivNoNan
    DynamicPartition DynamicStitch Einsum Elu EmptyTensorList EnsureShape Enter Equal Erf Erfc
    Erfinv EuclideanNorm Exit Exp ExpandDims Expm1 ExtractImagePatches FFT FFT2D
    FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel Fill Floor
    FloorDiv FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 FusedPadConv2D
    FusedResizeAndPadConv2D Gather GatherNd GatherV2 Greater GreaterEqual GuaranteeConst
    HSVToRGB HistogramFixedWidth IFFT IFFT2D IRFFT IRFFT2D Identity IdentityN If Imag
    ImageProjectiveTransformV2 ImageProjectiveTransformV3 InTopK InTopKV2 Inv Invert
    InvertPermutation IsFinite IsInf IsNan L2Loss LRN LeakyRelu LeftShift Less LessEqual Lgamma
    LinSpace Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr LoopCond MatMul MatrixBandPart
    MatrixDeterminant MatrixDiag MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2
    MatrixDiagV3 MatrixInverse MatrixSetDiag MatrixSetDiagV3 MatrixSolve Max MaxPool MaxPool3D
    MaxPoolV2 MaxPoolWithArgmax Maximum Mean Merge Min Minimum MirrorPad Mod Mul MulNoNan
    Multinomial Neg NextIteration NoOp NonMaxSuppressionV3 NotEqual OneHot OnesLike Pack Pad
    PadV2 ParallelDynamicStitch PartitionedCall Placeholder PlaceholderV2 PlaceholderWithDefault
    Pow PreventGradient Prod RFFT RFFT2D RGBToHSV RandomShuffle RandomStandardNormal
    RandomUniform RandomUniformInt Range Rank ReadVariableOp Real RealDiv Reciprocal Relu Relu6
    Reshape ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor ResourceGather Reverse
    ReverseSequence ReverseV2 RightShift Rint Roll Round Rsqrt ScaleAndTranslate ScatterNd
    SegmentMax SegmentMean SegmentMin SegmentSum Select SelectV2 Selu Shape ShapeN Sigmoid Sign
    Sin Sinh Size Slice Softmax Softplus Softsign SpaceToBatch SpaceToBatchND SpaceToDepth Split
    SplitV Sqrt Square SquaredDifference Squeeze StatefulPartitionedCall StatelessCase
    StatelessIf StatelessRandomGetAlg StatelessRandomGetKeyCounter
    StatelessRandomGetKeyCounterAlg StatelessRandomNormal StatelessRandomNormalV2
    StatelessRandomUniform StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2
    StatelessRandomUniformInt StatelessRandomUniformIntV2 StatelessRandomUniformV2
    StatelessTruncatedNormal StatelessTruncatedNormalV2 StatelessWhile StopGradient StridedSlice
    Sub Sum Switch Tan Tanh TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3
    TensorArrayReadV3 TensorArrayScatterV3 TensorArraySizeV3 TensorArraySplitV3 TensorArrayV3
    TensorArrayWriteV3 TensorListConcatV2 TensorListElementShape TensorListFromTensor
    TensorListGather TensorListGetItem TensorListLength TensorListReserve TensorListSetItem
    TensorListStack TensorScatterAdd TensorScatterUpdate Tile TopK TopKV2 Transpose TruncateDiv
    TruncateMod TruncatedNormal Unique UniqueV2 Unpack UnsortedSegmentMax UnsortedSegmentSum
    VarHandleOp VarIsInitializedOp VariableShape Where While Xdivy Xlogy ZerosLike
"""
ALLOWED = frozenset(_OPERATIONS.split())
# A protocol buffer, and with it all constants that a graph can hold, is smaller.
LARGEST_CONSTANTS = 1 << 31


def check_graph(graph):
    """Raises ValueError for a GraphDef that, in itself or a function, does more than compute."""
    _check_nodes([graph.node, *(function.node_def for function in graph.library.function)])


def check_saved_model(path):
    """Raises ValueError for a SavedModel folder that does more than compute.

    Its own functions for saving and restoring its variables may read and write files, as long as
    nothing else calls them: TensorFlow restores variables without them.
    """
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString((path / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise ValueError("its saved_model.pb is damaged") from error
    graphs = model.meta_graphs
    # Anything else TensorFlow takes for a model of TensorFlow 1, parts of which run when it loads.
    if len(graphs) != 1 or not graphs[0].HasField("object_graph_def"):
        raise ValueError("it is no SavedModel folder of TensorFlow 2 with one model")
    if (path / "saved_model.cpb").exists():
        raise ValueError("TensorFlow would load its saved_model.cpb instead of saved_model.pb")
    meta_graph = model.meta_graphs[0]
    graph = meta_graph.graph_def
    of_saver = _functions_of_saver(meta_graph)
    functions = [f.node_def for f in graph.library.function if f.signature.name not in of_saver]
    _check_nodes([graph.node, *functions])


def _functions_of_saver(meta_graph):
    """Returns the names of the functions that only the nodes of the saver name."""
    saver = meta_graph.saver_def
    nodes = {saver.save_tensor_name.partition(":")[0], saver.restore_op_name}
    graph = meta_graph.graph_def
    named = {
        node.attr["f"].func.name for node in graph.node if node.name in nodes and "f" in node.attr
    }
    rest = type(meta_graph)()
    rest.CopyFrom(meta_graph)
    del rest.graph_def.node[:]
    rest.graph_def.node.extend(node for node in graph.node if node.name not in nodes)
    del rest.graph_def.library.function[:]
    rest.graph_def.library.function.extend(
        function for function in graph.library.function if function.signature.name not in named
    )
    content = rest.SerializeToString()
    return {name for name in named if name.encode() not in content}


def _check_nodes(lists):
    refused, constants = set(), 0
    for nodes in lists:
        for node in nodes:
            if node.op not in ALLOWED:
                refused.add(node.op)
            elif node.op == "Const":
                constants += _size(node.attr["value"].tensor)
    if refused:
        raise ValueError(
            f"it has the operation {', '.join(sorted(refused))}, which networks on images do not "
            "need. Graphs are programs, and may do harm: use those that you, or people whom you "
            "trust, have frozen."
        )
    if constants > LARGEST_CONSTANTS:
        raise ValueError(f"its constants would fill {constants / 1e9:.1f} GB")


def _size(tensor):
    size = tf.dtypes.as_dtype(tensor.dtype).size or 1
    return size * math.prod(max(dimension.size, 0) for dimension in tensor.tensor_shape.dim)
