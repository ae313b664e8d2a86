/* The frozen family of integer tables that every coefficient is coded with. See magnitudes.py. */

#ifndef MAGNITUDES_H
#define MAGNITUDES_H

#include "../native.h"

#define DIRECT 57  /* rows whose symbol is the magnitude itself */
#define FINE_BITS 3 /* 2^3 rows for magnitudes without their low bits, one per eighth of an octave */
#define ORIGIN 40  /* the row in which the spread is twice the step */
#define SYMBOLS 20 /* magnitudes 0 to 18, and 19 for all above */
#define ESCAPE (SYMBOLS - 1)
#define POINT_BITS 16 /* from which bit on a guide is a point; below, it is a cost */
#define COST ((1 << POINT_BITS) - 1)

/* `Magnitudes` of magnitudes.py, in its order; row, quantiser and symbol are the axes. */
struct magnitudes {
    const int32_t *starts, *scores, *information, *centroids, *costs, *points, *guides;
};

/* Where the table of a row and a quantiser begins in all arrays but `starts` and `information`. */
INLINED int32_t table_at(int32_t row, int32_t quantiser)
{
    return (2 * row + quantiser) * SYMBOLS;
}

/* The cumulative frequencies of a row and a quantiser: `SYMBOLS` + 1 numbers. */
INLINED const int32_t *starts_at(const struct magnitudes *tables, int32_t row, int32_t quantiser)
{
    return tables->starts + (2 * row + quantiser) * (SYMBOLS + 1);
}

#endif
