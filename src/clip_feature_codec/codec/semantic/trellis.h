/* Dependent quantisation of vectors, some of them side by side. See trellis.py. */

#ifndef SEMANTIC_TRELLIS_H
#define SEMANTIC_TRELLIS_H

#include "../entropy/machine.h"
#include "../entropy/magnitudes.h"

#define STATES 128

/* Vectors of up to n coefficients, each with a step of its own, and where they are searched. A lane may be empty: of
   width 0.

   `scales` (n).
   `gains` (LANES, n): those of the steps; a lane's begin at `offsets`.
   `targets` (n, LANES): what is to be coded, in 2^-8 of each step.
   `symbols` (n, LANES): magnitudes with the targets' signs; 0 beyond a lane's width.
   `quantisers` (n, LANES): those that they belong to. */
struct lanes {
    const int64_t *scales;
    int32_t *gains, (*targets)[LANES], (*symbols)[LANES], (*quantisers)[LANES];
    int64_t *memory;
    int32_t steps[LANES], offsets[LANES], weights[LANES];
    int64_t widths[LANES], widest;
};

/* int64s of memory that lanes of up to `width` coefficients and the search take. */
int64_t lanes_size(int64_t width);

/* Lanes without vectors. */
struct lanes lanes_in(int64_t *memory, const int64_t *scales, int64_t width);

/* The level of a coefficient in a lane, less the drift. */
INLINED int32_t level_in(const struct lanes *lanes, int64_t j, int lane)
{
    return (int32_t)lanes->scales[j] - lanes->steps[lane];
}

/* Fill in the best paths' symbols and quantisers in the first `count` lanes. */
void search(struct lanes *lanes, int count, const struct magnitudes *tables, const struct machine *machine);

#endif
