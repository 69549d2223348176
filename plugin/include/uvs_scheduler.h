/*
 * A scheduler for UVS, as a shared library. docs/plugins.md has a walk-through.
 *
 * Export one function, uvs_scheduler(), that returns a table; UVS calls its functions for each service
 * that was made with `ipvsadm -A ... -s NAME`. Build with: cc -O2 -fPIC -shared -o libNAME.so NAME.c
 *
 * This header equals plugin/src/abi.rs; a test has the C compiler compare the two field by field.
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef UVS_SCHEDULER_H
#define UVS_SCHEDULER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of all that is defined here; UVS runs plugins of exactly this one. */
#define UVS_SCHEDULER_ABI 1u

/* Bytes of a name, without its NUL. */
#define UVS_NAME_MAX 15

/* pick() refuses the connection. Any number below it counts as a fault of the plugin. */
#define UVS_NONE (-1)

/* Claim: instances with the same seed and history pick the same servers. */
#define UVS_DETERMINISTIC UINT64_C(1)

/* uvs_params.flags: sh-fallback and mh-fallback, sh-port and mh-port, flag-3 of `ipvsadm -b`. */
#define UVS_FLAG_1 0x8u
#define UVS_FLAG_2 0x10u
#define UVS_FLAG_3 0x20u

/* uvs_backend.flags: at its upper threshold; gets no new connections. */
#define UVS_OVERLOADED 1u

/* An IPv4 or IPv6 address in network byte order; IPv4 as ::ffff:a.b.c.d. */
struct uvs_addr {
    uint8_t bytes[16];
};

/* What a packet's headers say. Ports are in host byte order. */
struct uvs_flow {
    struct uvs_addr src;
    struct uvs_addr dst;
    uint16_t src_port;
    uint16_t dst_port;
    uint8_t protocol;    /* 6 TCP, 17 UDP, 132 SCTP */
    uint8_t reserved[3]; /* zero */
};

/* A real server. UVS counts, schedulers only read. */
struct uvs_backend {
    struct uvs_addr addr;
    uint64_t id;          /* stays with the server over edits; its index may change */
    uint32_t weight;      /* 0 = gets nothing new */
    uint32_t active;      /* connections that IPVS counts as active */
    uint32_t inactive;    /* all other connections; UDP's all are here */
    uint32_t flags;       /* UVS_OVERLOADED */
    uint16_t port;        /* host byte order */
    uint16_t reserved;    /* zero */
    uint32_t handshake;   /* microseconds from SYN to SYN-ACK, smoothed; 0 = not known */
};

/* What create() is given. */
struct uvs_params {
    uint64_t seed;       /* of any randomness, so that a run can be repeated */
    uint32_t flags;      /* UVS_FLAG_1 ... */
    uint32_t table_size; /* of a look-up table of settable size; 0 = your default */
};

/*
 * The table. Only pick must be there; leave out what you do not need (NULL).
 *
 * create() makes the state of one service, which the others get as their first argument (NULL without
 * create). One state is used by one thread at a time, several states by several threads, so keep no
 * writable globals. Functions returning int32_t return 0, or less than 0 where they failed.
 */
struct uvs_scheduler_table {
    uint32_t abi;          /* UVS_SCHEDULER_ABI */
    uint32_t size;         /* sizeof(struct uvs_scheduler_table) */
    uint32_t backend_size; /* sizeof(struct uvs_backend) */
    uint32_t flow_size;    /* sizeof(struct uvs_flow) */
    const char *name;      /* for `ipvsadm -s`: letters, digits, '-', '_', '.' */
    const char *version;   /* such as "1.2.0": the highest takes over */
    const char *about;     /* one line */
    uint64_t claims;       /* UVS_DETERMINISTIC, or 0 */

    void *(*create)(const struct uvs_params *params);
    void (*destroy)(void *state);

    /* The set changed, or is seen for the first time. Called for every single change. */
    int32_t (*backends_changed)(void *state, const struct uvs_backend *backends, size_t count);

    /*
     * The index of the server for a new connection, or UVS_NONE. It must name a server that
     * uvs_is_available(); backends are in ipvsadm's order, the server added last first.
     */
    int64_t (*pick)(void *state, const struct uvs_flow *flow, const struct uvs_backend *backends,
                    size_t count);

    /* About once a minute, with a monotonic clock in nanoseconds: forget what is stale. */
    int32_t (*tick)(void *state, uint64_t now);
};

/* The first four fields. */
#define UVS_SCHEDULER_HEAD                                                                             \
    .abi = UVS_SCHEDULER_ABI, .size = sizeof(struct uvs_scheduler_table),                              \
    .backend_size = sizeof(struct uvs_backend), .flow_size = sizeof(struct uvs_flow)

#if defined(__GNUC__)
#define UVS_EXPORT __attribute__((visibility("default")))
#else
#define UVS_EXPORT
#endif

/* The one symbol a plugin exports. The table must never change. */
UVS_EXPORT const struct uvs_scheduler_table *uvs_scheduler(void);

/* Whether pick() may name this server. */
static inline int uvs_is_available(const struct uvs_backend *b)
{
    return b->weight > 0 && !(b->flags & UVS_OVERLOADED);
}

#ifdef __cplusplus
#define UVS_ASSERT(name, holds) static_assert(holds, #name)
#else
#define UVS_ASSERT(name, holds) _Static_assert(holds, #name)
#endif

UVS_ASSERT(uvs_flow, sizeof(struct uvs_flow) == 40);
UVS_ASSERT(uvs_backend, sizeof(struct uvs_backend) == 48);
UVS_ASSERT(uvs_params, sizeof(struct uvs_params) == 16);
UVS_ASSERT(uvs_scheduler_table, sizeof(struct uvs_scheduler_table) == 24 + 8 * sizeof(void *));

#ifdef __cplusplus
}
#endif

#endif
