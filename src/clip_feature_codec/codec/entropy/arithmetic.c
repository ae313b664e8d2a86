/* Whole streams of one kind of symbol: the arithmetic coder alone, without what the layers make of it. */

#include "arithmetic.h"

/* Code symbols that are given by their parts of 0 to 2^15: `parts` (count, 2), where each begins and how long it
   is. Returns the number of bytes in `buffer`. */
EXPORT int64_t arithmetic_encode(const int64_t *parts, int64_t count, uint8_t *buffer)
{
    struct coder coder = writer();
    for (int64_t j = 0; j < count; j++)
        push(&coder, parts[2 * j], parts[2 * j + 1], buffer);
    return flush(&coder, buffer);
}

/* Decode `count` symbols of one table; returns whether the stream is just what codes them. */
EXPORT bool arithmetic_decode(const uint8_t *data, int64_t end, const int32_t *starts, int64_t count,
                              int64_t *symbols)
{
    struct coder coder = reader(data, 0, end);
    for (int64_t j = 0; j < count; j++)
        symbols[j] = pop(&coder, starts, data, end);
    return complete(&coder, data, 0, end);
}
