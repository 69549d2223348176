/* A frame's headers, read once. */
#ifndef UVS_PACKET_H
#define UVS_PACKET_H

#include "helpers.h"

#define ETHERNET 14
#define TTL_LIMIT 1

enum kind {
	KIND_FOREIGN,   /* nothing that UVS looks at */
	KIND_TRANSPORT, /* has ports */
	KIND_ICMP,
	KIND_FRAGMENT, /* a later one */
	KIND_OTHER,
};

struct packet {
	u64 src[2]; /* IPv4 as ::ffff:a.b.c.d */
	u64 dst[2];
	u64 head[6]; /* the IP header and the ports behind it, as they are in the frame */
	u64 id;      /* a fragment's identification */
	u64 ports;   /* as in the header */
	u64 protocol;
	u64 len; /* bytes of the IP packet */
	u64 l4;  /* offset of the transport header in the frame */
	u64 why; /* UP_*: why it is not forwarded here, 0 = it may be */
	u64 kind;
	u64 v6;
	u64 first; /* it is its datagram's first fragment */
};

INLINE u64 mapped(u32 v4)
{
	return (u64)v4 << 32 | 0xffff0000;
}

INLINE u32 fold(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* The sum over an IPv4 header of five words. */
INLINE u32 header_sum(u64 a, u64 b, u64 c)
{
	return fold((a & 0xffffffff) + (a >> 32) + (b & 0xffffffff) + (b >> 32) + (c & 0xffffffff));
}

INLINE int has_ports(u32 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

/* Whether it is an extension header of IPv6 that has another header behind it. */
INLINE int is_extension(u32 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING || protocol == IPPROTO_FRAGMENT ||
	       protocol == IPPROTO_AH || protocol == IPPROTO_DSTOPTS;
}

/* The ports of a packet whose header is not the shortest. */
INLINE int late_ports(struct __sk_buff *skb, struct packet *p)
{
	u64 word = 0;
	if (bpf_skb_load_bytes(skb, p->l4, &word, 4))
		return 0;
	p->ports = (u32)word;
	return 1;
}

INLINE void parse4(struct __sk_buff *skb, struct packet *p)
{
	u64 *w = p->head;
	p->kind = KIND_FOREIGN;
	p->v6 = 0;
	u64 has_l4 = !bpf_skb_load_bytes(skb, ETHERNET, w, 24);
	if (!has_l4 && bpf_skb_load_bytes(skb, ETHERNET, w, 20))
		return;
	u64 words = w[0] & 0xf, fragment = swap16(w[0] >> 48);
	if ((w[0] >> 4 & 0xf) != 4 || words < 5)
		return;
	p->src[0] = p->dst[0] = 0;
	p->src[1] = mapped(w[1] >> 32);
	p->dst[1] = mapped((u32)w[2]);
	p->ports = w[2] >> 32;
	p->protocol = w[1] >> 8 & 0xff;
	p->len = swap16(w[0] >> 16);
	p->l4 = ETHERNET + words * 4;
	p->id = w[0] >> 32 & 0xffff;
	p->kind = KIND_OTHER;
	if (fragment & 0x1fff) {
		p->kind = KIND_FRAGMENT;
		p->why = UP_FRAGMENT;
		return;
	}
	if (p->protocol == IPPROTO_ICMP)
		p->kind = KIND_ICMP;
	else if (has_l4 && has_ports(p->protocol))
		p->kind = KIND_TRANSPORT;
	if (words != 5) {
		p->why = UP_OPTIONS;
		if (p->kind == KIND_TRANSPORT && !late_ports(skb, p))
			p->kind = KIND_OTHER;
	} else if (p->len < 28 || p->len + ETHERNET > skb->len || header_sum(w[0], w[1], w[2]) != 0xffff) {
		p->why = UP_MALFORMED;
	} else if ((w[1] & 0xff) <= TTL_LIMIT) {
		p->why = UP_TTL;
	}
	if (fragment & 0x2000) {
		p->first = 1;
		p->why = UP_FRAGMENT;
	}
}

/* The fragment header is at p->l4 (RFC 8200 4.5). */
INLINE void parse_fragment6(struct __sk_buff *skb, struct packet *p)
{
	u64 word = 0;
	p->why = UP_FRAGMENT;
	p->kind = KIND_OTHER;
	if (bpf_skb_load_bytes(skb, p->l4, &word, 8))
		return;
	p->protocol = word & 0xff;
	p->id = word >> 32;
	p->l4 += 8;
	if (swap16(word >> 16) & 0xfff8) {
		p->kind = KIND_FRAGMENT;
		return;
	}
	p->first = 1;
	if (p->protocol == IPPROTO_ICMPV6)
		p->kind = KIND_ICMP;
	else if (has_ports(p->protocol) && late_ports(skb, p))
		p->kind = KIND_TRANSPORT;
}

INLINE void parse6(struct __sk_buff *skb, struct packet *p)
{
	u64 *w = p->head;
	p->kind = KIND_FOREIGN;
	p->v6 = 1;
	u64 has_l4 = !bpf_skb_load_bytes(skb, ETHERNET, w, 48);
	if (!has_l4 && bpf_skb_load_bytes(skb, ETHERNET, w, 40))
		return;
	if ((w[0] >> 4 & 0xf) != 6)
		return;
	p->src[0] = w[1];
	p->src[1] = w[2];
	p->dst[0] = w[3];
	p->dst[1] = w[4];
	p->ports = (u32)w[5];
	p->protocol = w[0] >> 48 & 0xff;
	p->len = swap16(w[0] >> 32) + 40;
	p->l4 = ETHERNET + 40;
	p->kind = KIND_OTHER;
	if (p->protocol == IPPROTO_FRAGMENT) {
		parse_fragment6(skb, p);
		return;
	}
	if (p->protocol == IPPROTO_ICMPV6)
		p->kind = KIND_ICMP;
	else if (has_l4 && has_ports(p->protocol))
		p->kind = KIND_TRANSPORT;
	else if (is_extension(p->protocol))
		p->why = UP_OPTIONS;
	if (p->len < 48 || p->len + ETHERNET > skb->len)
		p->why = UP_MALFORMED;
	else if (!p->why && w[0] >> 56 <= TTL_LIMIT)
		p->why = UP_TTL;
}

INLINE u64 find_flow(const struct packet *p)
{
	u64 *found;
	u64 rest = p->ports | p->protocol << 32;
	if (p->v6) {
		struct key6 key = { { p->src[0], p->src[1] }, { p->dst[0], p->dst[1] }, rest };
		found = bpf_map_lookup_elem(&flows6, &key);
	} else {
		struct key4 key = { p->src[1] >> 32 | (p->dst[1] >> 32) << 32, rest };
		found = bpf_map_lookup_elem(&flows4, &key);
	}
	return found ? *found : 0;
}

#endif
