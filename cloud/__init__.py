"""The cloud service: feature bitstreams in over gRPC, task results out, results kept in SQLite."""
