/* At what level each coefficient is coded: its scale less the step, and the drift of the vector so far. See
   levels.py. */

#ifndef LEVELS_H
#define LEVELS_H

#include "../entropy/quantisers.h"

#define LOWEST_LEVEL (-40) /* coefficients below this level are zero and are not coded */
#define DRIFT_BITS 12      /* the drift counts in 2^-12 of a level */
#define DRIFT_LIMIT (48 << DRIFT_BITS)
#define PRIOR 42000    /* information, in the unit of the tables, that the first estimate of 0 is worth */
#define FORGET 6       /* 1/64 of the information is forgotten with each coefficient */
#define GAIN 775e6 /* 2^8 2^12 16 / (8 ln 2 / 2^8): drift per score, by the information so far */

/* The weight of each coefficient's score in the drift, which does not depend on the symbols, from the levels
   `scales` less `step`, which do not increase. Returns how many coefficients are coded: those at `LOWEST_LEVEL` or
   above. (Quotients of integers below 2^53 are rounded down rightly, since what they are short of the next integer
   is more than what division may round off.) */
INLINED int64_t fill_gains(const int64_t *scales, int64_t step, int64_t width, const int32_t *information,
                           int32_t *gains)
{
    int64_t known = PRIOR;
    for (int64_t j = 0; j < width; j++) {
        int64_t level = scales[j] - step;
        if (level < LOWEST_LEVEL)
            return j;
        gains[j] = (int32_t)(GAIN / (double)known);
        known += information[address_of((int32_t)level).row] - (known >> FORGET);
    }
    return width;
}

/* Table row and shift of a coefficient. */
INLINED struct address drifted_address(int32_t level, int32_t drift)
{
    return address_of(least_32(level + (drift >> DRIFT_BITS), HIGHEST_LEVEL));
}

/* The drift after one more magnitude, which was coded at this address and with this quantiser. */
INLINED int32_t drift_after(int32_t drift, int32_t gain, struct address at, int32_t quantiser, int32_t magnitude,
                            const struct magnitudes *tables)
{
    int32_t score = tables->scores[table_at(at.row, quantiser) + symbol_of(magnitude, at.shift)];
    int64_t moved = drift + ((int64_t)score * gain >> 8);
    return (int32_t)least(greatest(moved, -DRIFT_LIMIT), DRIFT_LIMIT);
}

#endif
