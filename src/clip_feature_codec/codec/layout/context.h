/* At what level each layout coefficient is coded: its spread is guessed from those before it. See context.py. */

#ifndef CONTEXT_H
#define CONTEXT_H

#include "../entropy/quantisers.h"

#define FEATURES 8        /* what a coefficient's spread is estimated from */
#define LOOKED_AT 8       /* neighbours in the same channel */
#define NEAR (LOOKED_AT + 2)
#define LOWEST (-5 * 256) /* coefficients whose scale is this far below the step are zero and are not coded */
#define HIGHEST (13 * 256) /* where shifts end */
#define FAR_BELOW (-100 * 256) /* the lowest row of the tables is above */
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
    int64_t recent_mean, all_mean;
};

/* Where each coefficient's level starts, in 1/256 octave, and which of them are `coded`, in their order. Returns
   how many are. */
INLINED int64_t select_coded(const int64_t *scales, int64_t size, int64_t step, int64_t *coded, int64_t *starts)
{
    int64_t count = 0;
    for (int64_t i = 0; i < size; i++) {
        starts[i] = scales[i] - 16 * step;
        if (starts[i] >= LOWEST)
            coded[count++] = i;
    }
    return count;
}

/* A new diagonal: the one at hand goes into the means. */
INLINED void fold(struct running *running)
{
    running->recent = (running->recent * MEMORY >> 8) + running->diagonal;
    running->recent_information = (running->recent_information * MEMORY >> 8) + running->diagonal_information;
    running->all += running->diagonal;
    running->all_information += running->diagonal_information;
    running->diagonal = running->diagonal_information = 0;
    running->recent_mean = floor_divided(running->recent * 256, running->recent_information + PRIOR);
    running->all_mean = floor_divided(running->all * 256, running->all_information + PRIOR);
}

/* What coefficient i can know, from the scores of this channel, 0 at what is not coded yet, and from those of the
   channels before. Both have one more entry, which is 0. */
INLINED void look(int64_t i, const struct geometry *geometry, const int64_t *scores, const int64_t *before,
                  const struct running *running, int64_t *features)
{
    const uint16_t *near = geometry->neighbours + i * NEAR;
    for (int k = 0; k < LOOKED_AT / 2; k++)
        features[k] = scores[near[2 * k]] + scores[near[2 * k + 1]];
    features[4] = before[near[LOOKED_AT]];
    features[5] = before[near[LOOKED_AT + 1]];
    features[6] = running->recent_mean;
    features[7] = running->all_mean;
}

/* Table row and shift of coefficient i. */
INLINED struct address address_in(int64_t i, int64_t start, const struct layout_tables *tables,
                                  const struct geometry *geometry, const int64_t *features)
{
    const int64_t *weights = tables->weights + geometry->groups[i] * FEATURES;
    int64_t moved = 0;
    for (int k = 0; k < FEATURES; k++)
        moved += weights[k] * features[k];
    return address_of((int32_t)(least(greatest(start + (moved >> 8), FAR_BELOW), HIGHEST) >> 4));
}

/* What a coded coefficient leaves to those behind it, from the table at its starting level. */
struct score {
    int64_t score, information;
};

INLINED struct score score_of(int64_t start, int64_t magnitude, int quantiser, const struct magnitudes *tables)
{
    struct address at = address_of((int32_t)least(start, HIGHEST) >> 4);
    int32_t symbol = symbol_of((int32_t)magnitude, at.shift);
    return (struct score){tables->scores[table_at(at.row, quantiser) + symbol], tables->information[at.row]};
}

#endif
