"""What client, server and export agree on: names, tensors, messages, recorded requests and checksums."""
