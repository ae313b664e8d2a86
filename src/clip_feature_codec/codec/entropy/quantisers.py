"""The two quantisers that both layers use; their code is in ``quantisers.h``.

Q0 has the even multiples of the step, Q1 the odd ones and zero. A coefficient is coded as a magnitude of the
one quantiser or the other, with a table that its level addresses, and a sign. Magnitudes that a table has no
symbol of their own for are told apart by bits behind it.
"""

from __future__ import annotations

ROOM = 10  # bytes that a coefficient takes at most, and that the end of a stream takes
