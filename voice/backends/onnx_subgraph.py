"""Subgraphs of an ONNX file: inner tensors become inputs and outputs, and what these do not need is left out.

Works on the encoded protocol buffers, so that speaking needs no package beyond the one that runs the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mouthpiece.engine.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# Field numbers of onnx.proto3, named by their message.
FLOAT = 1  # TensorProto.DataType
INT64 = 7  # TensorProto.DataType
_GRAPH = 7  # ModelProto.graph
_NODE = 1  # GraphProto.node
_INITIALIZER = 5  # GraphProto.initializer
_SPARSE = 15  # GraphProto.sparse_initializer
_INPUT = 11  # GraphProto.input
_OUTPUT = 12  # GraphProto.output
_VALUE_INFO = 13  # GraphProto.value_info
_QUANTIZATION = 14  # GraphProto.quantization_annotation
_NODE_INPUT = 1  # NodeProto.input
_NODE_OUTPUT = 2  # NodeProto.output
_NODE_ATTRIBUTE = 5  # NodeProto.attribute
_ATTRIBUTE_GRAPH = 6  # AttributeProto.g
_TENSOR_NAME = 8  # TensorProto.name
_VALUE_NAME = 1  # ValueInfoProto.name


class _Node(NamedTuple):
    """A node of the graph: its bytes, and the names of its tensors."""

    raw: memoryview
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def extract_subgraph(model: bytes, given: dict[str, tuple[int, int]], wanted: list[str]) -> bytes:
    """Extract the part of a graph between some of its tensors, as bytes of a new ONNX file without unneeded weights.

    model: bytes of an ONNX file without nested graphs.
    given: {tensor: (FLOAT or INT64, rank)}; each becomes an input, and what computed it is left out.
    wanted: names of the tensors that become the outputs, in order.
    Inputs of the old graph that are still needed stay, and stay first.
    Raises InvalidInputError for bytes that are not such a file, or a tensor that is not in it.
    Source: onnx.proto3 of ONNX, protocol buffers' encoding.
    """
    try:
        return _extract(memoryview(model), given, wanted)
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"model file: not readable as ONNX ({error}).", hint="Get the model again.", code="bad_model"
        ) from error


def _extract(model: memoryview, given: dict[str, tuple[int, int]], wanted: list[str]) -> bytes:
    """Extract a subgraph. Raises ValueError or IndexError for bytes that are not such a file."""
    head, graph = [], None
    for number, field, body in _iterate_fields(model):
        if number == _GRAPH:
            graph = body
        else:
            head.append(field)
    if graph is None:
        raise ValueError("no graph in it")
    nodes: list[_Node] = []
    held: dict[int, dict[str, memoryview]] = {_INITIALIZER: {}, _INPUT: {}, _OUTPUT: {}}
    rest: list[bytes | memoryview] = []
    for number, field, body in _iterate_fields(graph):
        if number == _NODE:
            nodes.append(_parse_node(field, body))
        elif number in held:
            held[number][_parse_name(body, _TENSOR_NAME if number == _INITIALIZER else _VALUE_NAME)] = field
        elif number not in (_SPARSE, _VALUE_INFO, _QUANTIZATION):
            rest.append(field)
    kept, needed = _collect_upstream(nodes, held, given, wanted)
    made = {name for node in kept for name in node.outputs} | set(given)
    missing = [name for name in wanted if name not in made]
    if missing:
        raise ValueError(f"it has no tensor {missing[0]}")
    parts: list[bytes | memoryview] = [*(node.raw for node in kept), *rest]
    parts += [field for name, field in held[_INITIALIZER].items() if name in needed]
    parts += [field for name, field in held[_INPUT].items() if name in needed and name not in given]
    parts += [_encode_field(_INPUT, _encode_value_info(name, *given[name])) for name in given if name in needed]
    for name in wanted:
        value_info = _encode_field(_OUTPUT, _encode_field(_VALUE_NAME, name.encode()))
        parts.append(held[_OUTPUT].get(name) or value_info)
    return b"".join(head) + _encode_field(_GRAPH, b"".join(parts))


def _collect_upstream(
    nodes: list[_Node], held: dict[int, dict[str, memoryview]], given: dict[str, tuple[int, int]], wanted: list[str]
) -> tuple[list[_Node], set[str]]:
    """Collect the nodes, in order, and the tensors that the wanted tensors need when some are given."""
    producers = {name: node for node in nodes for name in node.outputs if name}
    needed, kept, waiting = set(), set(), list(wanted)
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        node = None if name in given else producers.get(name)
        if node is None and name and name not in given and name not in held[_INITIALIZER] and name not in held[_INPUT]:
            raise ValueError(f"it has no tensor {name}")
        if node is not None and id(node) not in kept:
            kept.add(id(node))
            waiting += node.inputs
    return [node for node in nodes if id(node) in kept], needed


def _parse_node(field: memoryview, body: memoryview) -> _Node:
    """Parse a NodeProto. Raises ValueError for nested graphs."""
    inputs, outputs = [], []
    for number, _, value in _iterate_fields(body):
        if number == _NODE_INPUT:
            inputs.append(bytes(value).decode())
        elif number == _NODE_OUTPUT:
            outputs.append(bytes(value).decode())
        elif number == _NODE_ATTRIBUTE and any(n == _ATTRIBUTE_GRAPH for n, _, _ in _iterate_fields(value)):
            raise ValueError("it has nested graphs")
    return _Node(field, tuple(inputs), tuple(outputs))


def _parse_name(body: memoryview, number: int) -> str:
    """Parse the name of a tensor or value from the field of that number."""
    return next((bytes(value).decode() for n, _, value in _iterate_fields(body) if n == number), "")


def _iterate_fields(message: memoryview) -> Iterator[tuple[int, memoryview, Any]]:
    """Iterate over the fields of a message: (number, all its bytes, its value), the value a memoryview for text, bytes
    and messages, else an int.
    """
    at = 0
    while at < len(message):
        start = at
        key, at = _parse_varint(message, at)
        kind = key & 7
        value: memoryview | int
        if kind == 0:
            value, at = _parse_varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = int.from_bytes(message[at : at + size], "little"), at + size
        elif kind == 2:
            size, at = _parse_varint(message, at)
            value, at = message[at : at + size], at + size
        else:
            raise ValueError(f"wire type {kind} at byte {start}")
        if at > len(message):
            raise ValueError(f"it ends {at - len(message)} bytes too early")
        yield key >> 3, message[start:at], value


def _parse_varint(message: memoryview, at: int) -> tuple[int, int]:
    """Parse a variable-length integer: (value, position behind it)."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number is too long")


def _encode_varint(value: int) -> bytes:
    """Encode a variable-length integer."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def _encode_field(number: int, value: bytes | int) -> bytes:
    """Encode a field of a message."""
    if isinstance(value, int):
        return _encode_varint(number << 3) + _encode_varint(value)
    return _encode_varint(number << 3 | 2) + _encode_varint(len(value)) + value


def _encode_value_info(name: str, kind: int, rank: int) -> bytes:
    """Encode a ValueInfoProto of a tensor with symbolic dimensions."""
    dims = b"".join(_encode_field(1, _encode_field(2, f"{name}_{k}".encode())) for k in range(rank))
    tensor_type = _encode_field(1, _encode_field(1, kind) + _encode_field(2, dims))
    return _encode_field(1, name.encode()) + _encode_field(2, tensor_type)
