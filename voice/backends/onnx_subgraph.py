"""Cutting an ONNX file: inner tensors become inputs and outputs, and what they do not need is left out.

Works on the bytes of the format itself, so that speaking needs no package beyond the one that runs the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mouthpiece.engine.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

FLOAT, INT64 = 1, 7  # TensorProto.DataType
_GRAPH = 7  # ModelProto
_NODE, _INITIALIZER, _SPARSE, _INPUT, _OUTPUT, _VALUE_INFO, _QUANTIZATION = 1, 5, 15, 11, 12, 13, 14  # GraphProto
_NODE_INPUT, _NODE_OUTPUT, _NODE_ATTRIBUTE = 1, 2, 5  # NodeProto
_ATTRIBUTE_GRAPH = 6  # AttributeProto
_TENSOR_NAME, _VALUE_NAME = 8, 1  # TensorProto, ValueInfoProto


class _Node(NamedTuple):
    raw: memoryview
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def extract_subgraph(model: bytes, given: dict[str, Any], wanted: list[str]) -> bytes:
    """The part of a graph between some of its tensors, as bytes of a new ONNX file; weights that it does not need stay
    behind.

    model: bytes of an ONNX file without nested graphs.
    given: dict, name of a tensor -> its type (FLOAT, INT64) and rank: it becomes an input, and what made it goes.
    wanted: names of the tensors that become the outputs, in order.
    Inputs of the old graph that are still needed stay, and stay first.
    Raises Refused for bytes that are no such file, or a tensor that is not in it.
    Source: onnx.proto3 of ONNX, protocol buffers' encoding.
    """
    try:
        return _extract(memoryview(model), given, wanted)
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"model file: not readable as ONNX ({error}).", hint="Get the model again.", code="bad_model"
        ) from error


def _extract(model: memoryview, given: dict[str, Any], wanted: list[str]) -> bytes:
    head, graph = [], None
    for number, field, body in _iterate_fields(model):
        if number == _GRAPH:
            graph = body
        else:
            head.append(field)
    if graph is None:
        raise ValueError("no graph in it")
    nodes, held = [], {_INITIALIZER: {}, _INPUT: {}, _OUTPUT: {}}
    rest = []
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
    parts = [node.raw for node in kept] + rest
    parts += [field for name, field in held[_INITIALIZER].items() if name in needed]
    parts += [field for name, field in held[_INPUT].items() if name in needed and name not in given]
    parts += [_encode_field(_INPUT, _encode_value_info(name, *given[name])) for name in given if name in needed]
    parts += [
        held[_OUTPUT].get(name) or _encode_field(_OUTPUT, _encode_field(_VALUE_NAME, name.encode())) for name in wanted
    ]
    return b"".join(head) + _encode_field(_GRAPH, b"".join(parts))


def _collect_upstream(
    nodes: list[_Node], held: dict[int, dict[str, memoryview]], given: dict[str, Any], wanted: list[str]
) -> tuple[list[_Node], set]:
    """The nodes, in order, and the names of all tensors that the wanted ones need when the given ones are there."""
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
    return next((bytes(value).decode() for n, _, value in _iterate_fields(body) if n == number), "")


def _iterate_fields(message: memoryview) -> Iterator:
    """The fields of a message: number, all its bytes, its value (a memoryview for text, bytes and messages, else an
    int).
    """
    at = 0
    while at < len(message):
        start = at
        key, at = _parse_varint(message, at)
        kind = key & 7
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
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number too long")


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def _encode_field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _encode_varint(number << 3) + _encode_varint(value)
    return _encode_varint(number << 3 | 2) + _encode_varint(len(value)) + value


def _encode_value_info(name: str, kind: int, rank: int) -> bytes:
    dims = b"".join(_encode_field(1, _encode_field(2, f"{name}_{k}".encode())) for k in range(rank))
    return _encode_field(1, name.encode()) + _encode_field(
        2, _encode_field(1, _encode_field(1, kind) + _encode_field(2, dims))
    )
