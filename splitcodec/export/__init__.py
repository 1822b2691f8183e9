"""From checkpoints to a pack: ONNX graphs with prompts as inputs, integer tables, numeric gates."""
