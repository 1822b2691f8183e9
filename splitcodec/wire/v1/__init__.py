"""Wire version 1, generated from proto/splitcodec/wire/v1 by `make proto`. Never edit by hand."""
