"""Dead letters: messages whose receiver is not there are kept on disk, and delivered when it is.

Use `DeadLetterQueue`; the actor is `DeadLetters`, and the table belongs to a `foundation.store.Store`.
"""

# What a sender uses.
from foundation.dead_letters.queue import DeadLetterQueue as DeadLetterQueue
from foundation.dead_letters.letter import Letter as Letter
from foundation.dead_letters.letter import NotSerializable as NotSerializable

# The actor that keeps and delivers, for a tree.
from foundation.dead_letters.delivery import DeadLetters as DeadLetters
