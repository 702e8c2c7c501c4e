"""One message of each type, made of the type itself: what is added to a type is fuzzed from then on."""

import enum
from typing import Any

from msgspec import inspect

TEXT = "192.0.2.10"


def sample(kind: Any) -> Any:
    """Return a plain value (for JSON) that a decoder of `kind` takes, with all of its fields."""
    return _value(inspect.type_info(kind))


def _value(kind: inspect.Type) -> Any:
    match kind:
        case inspect.StructType() | inspect.DataclassType():
            fields = {field.encode_name: _value(field.type) for field in kind.fields}
            tag = getattr(kind, "tag_field", None)
            return {tag: kind.tag, **fields} if tag else fields
        case inspect.UnionType():
            return _value(next(one for one in kind.types if not isinstance(one, inspect.NoneType)))
        case inspect.DictType():
            return {_value(kind.key_type): _value(kind.value_type)}
        case inspect.TupleType():
            return [_value(one) for one in kind.item_types]
        case inspect.CollectionType():
            return [_value(kind.item_type)] * 2
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.EnumType():
            first: enum.Enum = next(iter(kind.cls))
            return first.value
    plain = {inspect.IntType: 7, inspect.FloatType: 1.5, inspect.BoolType: True, inspect.StrType: TEXT}
    return plain.get(type(kind), {})  # type: ignore[call-overload]
