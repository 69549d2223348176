/* What is counted: for each CPU of a port, and of a server; of a connection where that is asked for. */
#ifndef UVS_COUNT_H
#define UVS_COUNT_H

#include "helpers.h"

INLINE void add(struct total *total, u64 bytes)
{
	if (total) {
		total->packets++;
		total->bytes += bytes;
	}
}

INLINE void count_at(u64 port, u64 what, u64 bytes)
{
	u64 key = port * CELLS + what;
	add(bpf_map_lookup_elem(&cells, &key), bytes);
}

INLINE void count(struct __sk_buff *skb, u64 what, u64 bytes)
{
	u64 ifindex = skb->ifindex;
	u32 *port = bpf_map_lookup_elem(&ports, &ifindex);
	if (port)
		count_at(*port, what, bytes);
}

/* As `count`, of a frame that goes this way: most come by the port that the last one came by. */
INLINE void count_on(struct __sk_buff *skb, struct leg *leg, u64 what, u64 bytes)
{
	u64 ifindex = skb->ifindex, last = leg->port;
	if ((u32)last != ifindex) {
		u32 *port = bpf_map_lookup_elem(&ports, &ifindex);
		if (!port)
			return;
		last = ifindex | (u64)*port << 32;
		leg->port = last;
	}
	count_at(last >> 32, what, bytes);
}

INLINE void count_server(u64 server, u32 direction, u64 bytes)
{
	u64 key = server * 2 + direction;
	add(bpf_map_lookup_elem(&totals, &key), bytes);
}

/* Of a connection by itself. Two CPUs may have packets of one direction in the same instant. */
INLINE void count_conn(u64 key, u64 bytes)
{
	struct total *total = bpf_map_lookup_elem(&counted, &key);
	if (total) {
		__sync_fetch_and_add(&total->packets, 1);
		__sync_fetch_and_add(&total->bytes, bytes);
	}
}

#endif
