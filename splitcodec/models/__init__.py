"""The codec's networks in torch. Only training, export and evaluation tooling enters this room."""
