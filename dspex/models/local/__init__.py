"""The embedded language model: a small real model, served by an operating-system process of its own.

- `weights` finds the model's file; `serve` runs in the process, and imports nothing of this project, so that it starts
  fast.
- `process` is that process as its owner sees it; `server` is the actor that owns it, and says where it serves.
- `engine` asks the server, and scores allowed values instead of generating text; `adapter` writes prompts that suit a
  small model. These two know nothing of actors.
"""
