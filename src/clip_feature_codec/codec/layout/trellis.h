/* Dependent quantisation of layouts, some of them side by side. See trellis.py. */

#ifndef LAYOUT_TRELLIS_H
#define LAYOUT_TRELLIS_H

#include "../entropy/machine.h"
#include "context.h"

#define LAYOUT_STATES 8
#define NO_STEP (1 << 20) /* at which nothing is coded: that of an empty lane */

/* Layouts, each at its own step, and where they are searched.

   `targets` (L, LANES): coefficients in 2^-FRACTION of each step.
   `symbols` (L, LANES): magnitudes with the targets' signs; 0 where none is coded.
   `quantisers` (L, LANES): those that they belong to.
   `ends` (CHANNELS, LANES): the coefficients of each channel from which on nothing but 0 is looked for. */
struct layouts {
    const struct layout_tables *tables;
    const struct geometry *geometry;
    int32_t (*targets)[LANES], (*symbols)[LANES], (*quantisers)[LANES];
    int64_t *memory;
    int32_t steps[LANES], weights[LANES], ends[CHANNELS][LANES], finest;
};

/* int64s of memory that layouts of `size` coefficients and the search take. */
int64_t layouts_size(int64_t size);

/* Empty lanes. */
struct layouts layouts_in(int64_t *memory, const struct layout_tables *tables, const struct geometry *geometry);

/* Put a layout into a lane, whose targets are still to be filled in. */
INLINED void add_layout(struct layouts *layouts, int lane, int64_t step, int64_t weight, const int64_t *ends)
{
    for (int channel = 0; channel < CHANNELS; channel++)
        layouts->ends[channel][lane] = (int32_t)ends[channel];
    layouts->steps[lane] = (int32_t)step;
    layouts->weights[lane] = (int32_t)weight;
    layouts->finest = least_32(layouts->finest, (int32_t)step);
}

/* Fill in symbols and quantisers of the first `count` lanes. */
void search_layouts(struct layouts *layouts, int count, const struct machine *machine);

#endif
