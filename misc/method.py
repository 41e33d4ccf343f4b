"""The contract between a training method and the entry points."""
