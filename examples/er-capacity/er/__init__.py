"""The hospital emergency-room example: a synthetic hospital, its warehouse, and the trainer of its models."""
