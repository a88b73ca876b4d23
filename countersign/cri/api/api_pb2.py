"""The messages and enumerations of ``api.proto``, by its descriptors in ``api.binpb``; ``api_pb2.pyi`` types them."""

from importlib.resources import files

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

(_file,) = descriptor_pb2.FileDescriptorSet.FromString((files(__package__) / "api.binpb").read_bytes()).file
_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file)
DESCRIPTOR = _pool.FindFileByName(_file.name)
for _name, _message in DESCRIPTOR.message_types_by_name.items():
    globals()[_name] = message_factory.GetMessageClass(_message)
for _name, _enum in DESCRIPTOR.enum_types_by_name.items():
    globals()[_name] = EnumTypeWrapper(_enum)
    globals().update({value.name: value.number for value in _enum.values})
