"""The networks: one paper, one file; ``layers`` holds what two papers share, ``backbones`` the encoders by name."""
