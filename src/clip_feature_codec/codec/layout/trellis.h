/* Dependent quantisation of a layout. See trellis.py. */

#ifndef LAYOUT_TRELLIS_H
#define LAYOUT_TRELLIS_H

#include "../entropy/machine.h"
#include "context.h"

#define LAYOUT_STATES 8

/* int64s of memory that the search takes for `size` coefficients. */
int64_t layout_search_size(int64_t size);

void layout_quantise(const int64_t *targets, int64_t step, int64_t weight, const struct layout_tables *tables,
                     const struct geometry *geometry, const struct machine *machine, int64_t *memory,
                     int64_t *symbols, int64_t *quantisers);

#endif
