/* Whose a frame is that belongs to no connection known here: the services', or the host's. */
#ifndef UVS_RULES_H
#define UVS_RULES_H

#include "packet.h"

#define ICMP_UNREACHABLE 3
#define ICMP_QUENCH 4
#define ICMP_REDIRECTED 5
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER 12
#define FTP_DATA 20
#define UNPRIVILEGED 1024
/* The kernel's own reassembly time (net.ipv4.ipfrag_time). */
#define FRAGMENT_NS (30ULL * 1000000000)

INLINE u64 flags_of(const u64 *addr)
{
	u64 key[2] = { addr[0], addr[1] };
	u64 *flags = bpf_map_lookup_elem(&addresses, &key);
	return flags ? *flags : 0;
}

INLINE int has_rule(const u64 *addr, u32 port, u32 protocol, u64 kind)
{
	struct rule key = { { addr[0], addr[1] }, (port & 0xffff) | protocol << 16 | kind << 24 };
	return bpf_map_lookup_elem(&rules, &key) != 0;
}

/* A rule for this port, or for each. */
INLINE int matches(const u64 *addr, u32 port, u32 protocol, u64 kind)
{
	return has_rule(addr, port, protocol, kind) || has_rule(addr, 0, protocol, kind);
}

INLINE int in_network(const u64 *addr, u32 port, u32 protocol)
{
	/* The prefix's length, and the address behind it: 20 bytes that begin in the middle of a word. */
	u64 key[3] = { 128ULL << 32, addr[0], addr[1] };
	struct network *network = bpf_map_lookup_elem(&networks, (u8 *)key + 4);
	if (!network)
		return 0;
#pragma clang loop unroll(full)
	for (int i = 0; i < RANGES; i++) {
		u64 range = network->ranges[i];
		if (!range)
			return 0;
		if (range >> 32 == protocol && port >= (range & 0xffff) && port <= (range >> 16 & 0xffff))
			return 1;
	}
	return 0;
}

/* Why a flow is ours, 0 = it is not; `to` and `from` are its addresses' flags. */
INLINE u32 match(const struct control *c, const u64 *src, const u64 *dst, u32 ports, u32 protocol, u64 to, u64 from)
{
	u32 sport = ports & 0xffff, dport = ports >> 16;
	u32 port = swap16(dport);
	if (to & ADDRESS_TO && matches(dst, dport, protocol, RULE_TO))
		return UP_SERVICE;
	if (to & ADDRESS_FTP && protocol == IPPROTO_TCP && (port == FTP_DATA || port >= UNPRIVILEGED))
		return UP_SERVICE;
	if (c->flags & CONTROL_NETWORKS && (to & ADDRESS_RANGES || !(to & ADDRESS_LOCAL)) &&
	    in_network(dst, port, protocol))
		return UP_SERVICE;
	if (!(from & ADDRESS_FROM))
		return 0;
	if (matches(src, sport, protocol, RULE_WHOLE))
		return UP_SERVER;
	if (to & ADDRESS_FULLNAT && port >= c->first_port && port <= c->last_port &&
	    matches(src, sport, protocol, RULE_FULLNAT))
		return UP_SERVER;
	if (!(to & ADDRESS_LOCAL) && matches(src, sport, protocol, RULE_STRAY))
		return UP_SERVER;
	return 0;
}

/* The packet that an ICMP error quotes, into `q` as if it came the other way; whether there is one. */
INLINE int quoted(struct __sk_buff *skb, const struct packet *p, struct packet *q)
{
	u64 word = 0;
	u32 at = p->l4 + 8;
	if (bpf_skb_load_bytes(skb, p->l4, &word, 8))
		return 0;
	u32 type = word & 0xff;
	q->v6 = p->v6;
	if (p->v6) {
		if (type < 1 || type > 4 || bpf_skb_load_bytes(skb, at, q->head, 44))
			return 0;
		q->dst[0] = q->head[1];
		q->dst[1] = q->head[2];
		q->src[0] = q->head[3];
		q->src[1] = q->head[4];
		q->protocol = q->head[0] >> 48 & 0xff;
		q->ports = (u32)q->head[5];
	} else {
		if (type != ICMP_UNREACHABLE && type != ICMP_QUENCH && type != ICMP_REDIRECTED &&
		    type != ICMP_TIME_EXCEEDED && type != ICMP_PARAMETER)
			return 0;
		if (bpf_skb_load_bytes(skb, at, q->head, 24))
			return 0;
		u32 words = q->head[0] & 0xf;
		if (words < 5 || swap16(q->head[0] >> 48) & 0x1fff)
			return 0;
		q->dst[0] = q->src[0] = 0;
		q->dst[1] = mapped(q->head[1] >> 32);
		q->src[1] = mapped((u32)q->head[2]);
		q->protocol = q->head[1] >> 8 & 0xff;
		q->ports = q->head[2] >> 32;
		q->l4 = at + words * 4;
		if (words != 5 && !late_ports(skb, q))
			return 0;
	}
	q->ports = q->ports >> 16 | q->ports << 16;
	return 1;
}

INLINE u32 match_error(struct __sk_buff *skb, const struct packet *p)
{
	struct packet q = {};
	if (!quoted(skb, p, &q))
		return 0;
	if (has_ports(q.protocol)) {
		if (find_flow(&q))
			return UP_ICMP;
		if (flags_of(q.dst) & ADDRESS_TO && matches(q.dst, q.ports >> 16, q.protocol, RULE_TO))
			return UP_ICMP;
	}
	/* The quoted packet went to a tunnel's end: its source, the other way round. */
	u32 port = q.protocol == IPPROTO_UDP ? q.ports & 0xffff : 0;
	return has_rule(q.src, port, q.protocol, RULE_TUNNEL) ? UP_ICMP : 0;
}

/* A later fragment follows its datagram's first; where that has not come yet, its addresses decide. */
INLINE u32 match_fragment(const struct packet *p, u64 now)
{
	struct datagram key = { { p->src[0], p->src[1] },
				{ p->dst[0], p->dst[1] },
				p->id | (u64)p->protocol << 32 };
	u64 *known = bpf_map_lookup_elem(&fragments, &key);
	if (known && now - (*known >> 1) < FRAGMENT_NS)
		return *known & 1 ? UP_FRAGMENT : 0;
	if (flags_of(p->dst) & (ADDRESS_TO | ADDRESS_FTP | ADDRESS_RANGES | ADDRESS_FULLNAT))
		return UP_FRAGMENT;
	return flags_of(p->src) & (ADDRESS_FROM | ADDRESS_SERVER) ? UP_FRAGMENT : 0;
}

INLINE void remember_fragment(const struct packet *p, u64 now, u32 ours)
{
	struct datagram key = { { p->src[0], p->src[1] },
				{ p->dst[0], p->dst[1] },
				p->id | (u64)p->protocol << 32 };
	u64 value = now << 1 | !!ours;
	bpf_map_update_elem(&fragments, &key, &value, BPF_ANY);
}

#endif
