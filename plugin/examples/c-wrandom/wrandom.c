/*
 * wrandom, weighted random: each connection goes to a server drawn at random, in proportion to the weights.
 *
 * It needs no memory of earlier picks, so many directors may run it side by side. The randomness is
 * SplitMix64 from the service's seed: a run can be repeated.
 */
#include <stdlib.h>

#include "uvs_scheduler.h"

struct source {
    uint64_t state;
};

static void *create(const struct uvs_params *params)
{
    struct source *r = malloc(sizeof *r);

    if (r)
        r->state = params->seed;
    return r;
}

static void destroy(void *state)
{
    free(state);
}

static uint64_t next(struct source *r)
{
    uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static int64_t pick(void *state, const struct uvs_flow *flow, const struct uvs_backend *backends,
                    size_t count)
{
    uint64_t total = 0, drawn;

    (void)flow;
    for (size_t i = 0; i < count; i++)
        if (uvs_is_available(&backends[i]))
            total += backends[i].weight;
    if (total == 0)
        return UVS_NONE;
    /* Uneven by at most total in 2^64. */
    drawn = next(state) % total;
    for (size_t i = 0; i < count; i++) {
        if (!uvs_is_available(&backends[i]))
            continue;
        if (drawn < backends[i].weight)
            return (int64_t)i;
        drawn -= backends[i].weight;
    }
    return UVS_NONE;
}

static const struct uvs_scheduler_table table = {
    UVS_SCHEDULER_HEAD,
    .name = "wrandom",
    .version = "0.1.0",
    .about = "weighted random: a server drawn in proportion to the weights",
    .claims = UVS_DETERMINISTIC,
    .create = create,
    .destroy = destroy,
    .pick = pick,
};

const struct uvs_scheduler_table *uvs_scheduler(void)
{
    return &table;
}
