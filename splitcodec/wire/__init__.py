"""What travels between edge and cloud: generated gRPC messages and stubs (v1), and the channel options of
both ends."""
