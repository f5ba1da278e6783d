"""The pipeline file: one strict schema, read from YAML, protobuf text or JSON."""
