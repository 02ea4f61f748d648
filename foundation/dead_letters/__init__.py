"""Dead letters: messages whose receiver is not there are kept on disk, and delivered when it is.

Use `DeadLetterQueue`; the actor is `DeadLetters`, and the table belongs to a `foundation.store.Store`.
"""

from foundation.dead_letters.letter import Letter as Letter
from foundation.dead_letters.letter import NotKept as NotKept
from foundation.dead_letters.queue import DeadLetterQueue as DeadLetterQueue
from foundation.dead_letters.queue import DeadLetters as DeadLetters
