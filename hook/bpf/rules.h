/* Whose a frame is that belongs to no connection known here: the services', or the host's. */
#ifndef UVS_RULES_H
#define UVS_RULES_H

#include "packet.h"

#define ICMP_UNREACHABLE 3
#define ICMP_QUENCH 4
#define ICMP_REDIRECTED 5
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER 12
#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136
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

/* Whether these are addresses between which something may be ours whose ports cannot be read here. */
INLINE int concerns(u64 to, u64 from)
{
	return to & ~ADDRESS_LOCAL || from & (ADDRESS_FROM | ADDRESS_SERVER);
}

/* Whether its ports are behind headers that the engine walks, or missing where they ought to be. */
INLINE int is_hidden(const struct packet *p)
{
	return (p->v6 && is_extension(p->protocol)) || (p->first && has_ports(p->protocol));
}

/* Reads the packet that an ICMP error quotes into the place of the error, as if it came the other way; whether there is
 * one.
 */
INLINE int quoted(struct __sk_buff *skb, struct packet *p)
{
	u64 *w = p->head;
	u64 word = 0, at = p->l4 + 8;
	if (bpf_skb_load_bytes(skb, p->l4, &word, 8))
		return 0;
	u64 type = word & 0xff;
	if (p->v6) {
		if (type < 1 || type > 4 || bpf_skb_load_bytes(skb, at, w, 44))
			return 0;
		p->dst[0] = w[1];
		p->dst[1] = w[2];
		p->src[0] = w[3];
		p->src[1] = w[4];
		p->protocol = w[0] >> 48 & 0xff;
		p->ports = (u32)w[5];
	} else {
		if (type != ICMP_UNREACHABLE && type != ICMP_QUENCH && type != ICMP_REDIRECTED &&
		    type != ICMP_TIME_EXCEEDED && type != ICMP_PARAMETER)
			return 0;
		if (bpf_skb_load_bytes(skb, at, w, 24))
			return 0;
		u64 words = w[0] & 0xf;
		if (words < 5 || swap16(w[0] >> 48) & 0x1fff)
			return 0;
		p->dst[1] = mapped(w[1] >> 32);
		p->src[1] = mapped((u32)w[2]);
		p->protocol = w[1] >> 8 & 0xff;
		p->ports = w[2] >> 32;
		p->l4 = at + words * 4;
		if (words != 5 && !late_ports(skb, p))
			return 0;
	}
	p->ports = p->ports >> 16 | (p->ports & 0xffff) << 16;
	return 1;
}

INLINE u32 match_error(struct __sk_buff *skb, struct packet *p)
{
	if (!quoted(skb, p))
		return 0;
	if (has_ports(p->protocol)) {
		if (find_flow(p))
			return UP_ICMP;
		if (flags_of(p->dst) & ADDRESS_TO && matches(p->dst, p->ports >> 16, p->protocol, RULE_TO))
			return UP_ICMP;
	} else if (p->v6 && is_extension(p->protocol) && concerns(flags_of(p->dst), flags_of(p->src))) {
		return UP_ICMP;
	}
	/* The quoted packet went to a tunnel's end: its source, the other way round. */
	u32 port = p->protocol == IPPROTO_UDP ? p->ports & 0xffff : 0;
	return has_rule(p->src, port, p->protocol, RULE_TUNNEL) ? UP_ICMP : 0;
}

/* A later fragment follows its datagram's first; where that has not come yet, its addresses decide. */
INLINE u32 match_fragment(const struct packet *p)
{
	if (!has_ports(p->protocol) && !is_hidden(p))
		return 0;
	struct datagram key = { { p->src[0], p->src[1] },
				{ p->dst[0], p->dst[1] },
				p->id | p->protocol << 32 };
	u64 *known = bpf_map_lookup_elem(&fragments, &key);
	if (known && bpf_ktime_get_ns() - (*known >> 1) < FRAGMENT_NS)
		return *known & 1 ? UP_FRAGMENT : 0;
	if (flags_of(p->dst) & (ADDRESS_TO | ADDRESS_FTP | ADDRESS_RANGES | ADDRESS_FULLNAT))
		return UP_FRAGMENT;
	return flags_of(p->src) & (ADDRESS_FROM | ADDRESS_SERVER) ? UP_FRAGMENT : 0;
}

INLINE void remember_fragment(const struct packet *p, u32 ours)
{
	struct datagram key = { { p->src[0], p->src[1] },
				{ p->dst[0], p->dst[1] },
				p->id | p->protocol << 32 };
	u64 value = bpf_ktime_get_ns() << 1 | !!ours;
	bpf_map_update_elem(&fragments, &key, &value, BPF_ANY);
}

#endif
