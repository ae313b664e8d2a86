/* Dependent quantisation of a vector. See trellis.py. */

#ifndef SEMANTIC_TRELLIS_H
#define SEMANTIC_TRELLIS_H

#include "../entropy/machine.h"
#include "../entropy/magnitudes.h"

#define STATES 128

/* int64s of memory that the search takes for `width` coefficients. */
int64_t semantic_search_size(int64_t width);

void semantic_quantise(const int64_t *targets, const int64_t *levels, const int64_t *gains, int64_t width,
                       int64_t weight, const struct magnitudes *tables, const struct machine *machine,
                       int64_t *memory, int64_t *symbols);

#endif
