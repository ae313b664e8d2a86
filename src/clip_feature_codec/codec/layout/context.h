/* At what level each layout coefficient is coded: its spread is guessed from those before it. See context.py. */

#ifndef CONTEXT_H
#define CONTEXT_H

#include "../entropy/quantisers.h"

#define CHANNELS 3
#define FEATURES 8        /* what a coefficient's spread is estimated from */
#define LOOKED_AT 8       /* neighbours in the same channel */
#define NEAR (LOOKED_AT + 2)
#define LOWEST (-5 * 256) /* coefficients whose scale is this far below the step are zero and are not coded */
#define HIGHEST (13 * 256) /* where shifts end */
#define FAR_BELOW (-100 * 256) /* the lowest row of the tables is above */
#define DIAGONAL_BITS 7
#define NOWHERE (-1) /* no coefficient, no diagonal */
#define MEMORY 205        /* of 256: how much of a running mean is left after another diagonal */
#define PRIOR 16          /* information that a running mean of 0 is worth before anything is coded */

/* `Geometry` of tables.py: what is used of it. */
struct geometry {
    const uint16_t *neighbours;
    const int64_t *diagonals, *channels, *groups;
    intptr_t size; /* L */
};

/* `LayoutTables` of tables.py: what is used of it. */
struct layout_tables {
    const int64_t *scales, *weights;
    struct magnitudes magnitudes;
};

/* Scores and information: with forgetting, over all, and of the diagonal at hand; and the means of the first
   two. */
struct running {
    int64_t recent, recent_information, all, all_information, diagonal, diagonal_information;
    int32_t recent_mean, all_mean;
};

/* Where a coefficient's level starts, in 1/256 octave. It is coded from LOWEST on. */
INLINED int32_t start_of(int64_t i, int32_t step, const struct layout_tables *tables)
{
    return (int32_t)tables->scales[i] - 16 * step;
}

/* The channel and the diagonal of a coefficient, as one number. */
INLINED int32_t diagonal_of(int64_t i, const struct geometry *geometry)
{
    return (int32_t)(geometry->channels[i] << DIAGONAL_BITS | geometry->diagonals[i]);
}

/* A new diagonal: the one at hand goes into the means. These fit int32, since a channel has some hundred
   coefficients, and scores are below 2^15. */
INLINED void fold(struct running *running)
{
    running->recent = (running->recent * MEMORY >> 8) + running->diagonal;
    running->recent_information = (running->recent_information * MEMORY >> 8) + running->diagonal_information;
    running->all += running->diagonal;
    running->all_information += running->diagonal_information;
    running->diagonal = running->diagonal_information = 0;
    running->recent_mean = (int32_t)floor_divided(running->recent * 256, running->recent_information + PRIOR);
    running->all_mean = (int32_t)floor_divided(running->all * 256, running->all_information + PRIOR);
}

/* The first coefficient behind the channel that begins with one. */
INLINED int64_t end_of_channel(int64_t begin, const struct geometry *geometry)
{
    int64_t end = begin;
    while (end < geometry->size && geometry->channels[end] == geometry->channels[begin])
        end++;
    return end;
}

/* What coefficient i can know, from the scores of those before it, of this channel and of others, and from the running
   means. Scores are `stride` apart, 0 where nothing is coded; there is one more, which is 0. */
INLINED void look(int64_t i, const struct geometry *geometry, const int32_t *scores, int64_t stride,
                  int32_t recent_mean, int32_t all_mean, int32_t *features)
{
    const uint16_t *near = geometry->neighbours + i * NEAR;
    for (int k = 0; k < LOOKED_AT / 2; k++)
        features[k] = scores[near[2 * k] * stride] + scores[near[2 * k + 1] * stride];
    features[4] = scores[near[LOOKED_AT] * stride];
    features[5] = scores[near[LOOKED_AT + 1] * stride];
    features[6] = recent_mean;
    features[7] = all_mean;
}

/* Table row and shift of coefficient i. */
INLINED struct address address_in(int64_t i, int32_t start, const struct layout_tables *tables,
                                  const struct geometry *geometry, const int32_t *features)
{
    const int64_t *weights = tables->weights + geometry->groups[i] * FEATURES;
    int64_t moved = 0;
    for (int k = 0; k < FEATURES; k++)
        moved += (int64_t)(int32_t)weights[k] * features[k];
    return address_of((int32_t)least(greatest(start + (moved >> 8), FAR_BELOW), HIGHEST) >> 4);
}

/* The address at which a coded coefficient leaves its score to those behind it. */
INLINED struct address scored_at(int32_t start)
{
    return address_of(least_32(start, HIGHEST) >> 4);
}

INLINED int32_t score_of(struct address at, int32_t magnitude, int32_t quantiser, const struct magnitudes *tables)
{
    return tables->scores[table_at(at.row, quantiser) + symbol_of(magnitude, at.shift)];
}

#endif
