"""What checks compute with: arrays in, small dataclasses out; nothing here knows of any check."""
