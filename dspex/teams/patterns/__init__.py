"""Patterns of teams: who is asked, and when.

- Of a `router` one member is asked, of a `cascade` a dearer one where the cheaper is not sure: `in_turn` is what they
  have in common. `text_route` is a fitted router.
- `self_consistency` asks one program several times.
- In a `contract_net` members bid for tasks; a `contractor` is a program that does. On a `blackboard` they read and
  write what others need; `marks` fade.
- Members talk in a `group_chat`, a `debate` and a `mixture`, work for a manager (`supervisor`), or hand a conversation
  on (`handoff`): `dialogue` is what they have in common.
"""
