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
#define GAIN 775000000 /* 2^8 2^12 16 / (8 ln 2 / 2^8): drift per score, by the information so far */

/* The weight of each coefficient's score in the drift, which does not depend on the symbols, from `levels`,
   which do not increase. Returns how many coefficients are coded: those at `LOWEST_LEVEL` or above. */
INLINED int64_t fill_gains(const int64_t *levels, int64_t width, const int64_t *information, int64_t *gains)
{
    int64_t known = PRIOR;
    for (int64_t j = 0; j < width; j++) {
        if (levels[j] < LOWEST_LEVEL)
            return j;
        gains[j] = GAIN / known;
        known += information[address_of(levels[j]).row] - (known >> FORGET);
    }
    return width;
}

/* Table row and shift of a coefficient. */
INLINED struct address drifted_address(int64_t level, int64_t drift)
{
    return address_of(least(level + (drift >> DRIFT_BITS), HIGHEST_LEVEL));
}

/* The drift after one more magnitude, which was coded at this address and with this quantiser. */
INLINED int64_t drift_after(int64_t drift, int64_t gain, struct address at, int quantiser, int64_t magnitude,
                            const struct magnitudes *tables)
{
    int64_t score = tables->scores[table_at(at.row, quantiser) + symbol_of(magnitude, at.shift)];
    return least(greatest(drift + (score * gain >> 8), -DRIFT_LIMIT), DRIFT_LIMIT);
}

#endif
