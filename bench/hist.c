/* SPDX-License-Identifier: Apache-2.0 */
#include "hist.h"

/* A value of b > HIST_WHOLE_BITS bits loses its lowest b - HIST_WHOLE_BITS ones. */
static unsigned cell_of(uint64_t value)
{
    if (value >> HIST_MAX_BITS)
        return HIST_CELLS - 1;
    unsigned bits = 64 - (unsigned)__builtin_clzll(value | 1);
    unsigned shift = bits > HIST_WHOLE_BITS ? bits - HIST_WHOLE_BITS : 0;
    return shift * HIST_PARTS + (unsigned)(value >> shift);
}

/* The middle of what the cell stands for. */
static double value_of(unsigned cell)
{
    unsigned shift = cell / HIST_PARTS > 1 ? cell / HIST_PARTS - 1 : 0;
    uint64_t low = (uint64_t)(cell - shift * HIST_PARTS) << shift;
    return (double)low + (double)((UINT64_C(1) << shift) - 1) / 2;
}

void hist_add(struct hist *hist, uint64_t value)
{
    hist->cell[cell_of(value)]++;
    hist->count++;
}

double hist_quantile(const struct hist *hist, double share)
{
    double wanted = share * (double)hist->count;
    uint64_t seen = 0;
    for (unsigned cell = 0; cell < HIST_CELLS; cell++) {
        seen += hist->cell[cell];
        if (seen > 0 && (double)seen >= wanted)
            return value_of(cell);
    }
    return 0;
}
