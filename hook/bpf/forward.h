/* Frames of connections that are forwarded here. Nothing is changed before it is sure that the frame goes: what goes
 * up instead, the engine judges as if it had never been looked at.
 */
#ifndef UVS_FORWARD_H
#define UVS_FORWARD_H

#include "count.h"
#include "packet.h"

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define EVENT_SYN 0
#define EVENT_FIN 1
#define EVENT_ACK 2
#define EVENT_RST 3
#define EVENT_NONE 4
#define INPUT 0
#define OUTPUT 1
#define INPUT_ONLY 2
/* How far from the expected a segment's number may be (core/src/engine/flows/sequence.rs). */
#define WINDOW (1U << 25)

struct segment {
	u64 flags;
	u64 seq;
	u64 ack;
	u64 header; /* bytes of the transport header */
};

INLINE int near(u32 expected, u32 seq)
{
	return seq - expected + WINDOW <= 2 * WINDOW;
}

INLINE u32 grown(u32 known, u32 new)
{
	return known == 0 || new - known < 1U << 31 ? new : known;
}

INLINE u32 event_of(u32 flags)
{
	if (flags & TCP_RST)
		return EVENT_RST;
	if (flags & TCP_SYN)
		return EVENT_SYN;
	if (flags & TCP_FIN)
		return EVENT_FIN;
	return flags & TCP_ACK ? EVENT_ACK : EVENT_NONE;
}

/* Whether a segment ends a connection, or begins to. */
INLINE int ends(u32 flags)
{
	return flags & TCP_RST || (!(flags & TCP_SYN) && (flags & (TCP_FIN | TCP_ACK)) != TCP_ACK);
}

/* The transport header; UP_* where it is none that is forwarded. */
INLINE u32 read_transport(struct __sk_buff *skb, const struct packet *p, u32 direction, struct segment *s)
{
	u64 word[2] = { 0, 0 };
	if (p->protocol == IPPROTO_UDP) {
		s->header = 8;
		if (bpf_skb_load_bytes(skb, p->l4, word, 8))
			return UP_MALFORMED;
		return word[0] >> 48 ? 0 : UP_CHECKSUM;
	}
	if (p->protocol != IPPROTO_TCP)
		return UP_KNOWN;
	if (bpf_skb_load_bytes(skb, p->l4 + 4, word, 16))
		return UP_MALFORMED;
	s->seq = __builtin_bswap32((u32)word[0]);
	s->ack = __builtin_bswap32(word[0] >> 32);
	s->header = (word[1] >> 4 & 0xf) * 4;
	s->flags = word[1] >> 8 & 0xff;
	if (s->header < 20 || p->l4 + s->header > p->len + ETHERNET)
		return UP_MALFORMED;
	if (s->flags & TCP_SYN &&
	    (direction == INPUT || (s->flags & (TCP_SYN | TCP_ACK | TCP_FIN | TCP_RST)) != (TCP_SYN | TCP_ACK)))
		return UP_SYN;
	return 0;
}

/* Whether a frame fits its way out: UP_TOO_LARGE where it does not. */
INLINE u32 check_size(struct __sk_buff *skb, const struct packet *p, const struct leg *leg, const struct hop *hop,
		      u32 transport)
{
	u32 kind = leg->kind & LEG_KIND;
	u32 overhead = kind == LEG_WRAP4 ? 20 : kind == LEG_WRAP6 ? 40 : 0;
	u32 wire = skb->gso_size ? p->l4 - ETHERNET + transport + skb->gso_size : p->len;
	if (wire + overhead > hop->mtu || p->len + overhead > 0xffff)
		return UP_TOO_LARGE;
	return 0;
}

INLINE void tell(struct control *c, const struct conn *conn, u64 cell)
{
	struct event e = { conn->birth, cell };
	if (bpf_ringbuf_output(&events, &e, sizeof(e), BPF_RB_NO_WAKEUP))
		__sync_fetch_and_add(&c->events_lost, 1);
}

/* What the ends expect next. */
struct expected {
	u64 receiver;
	u64 sender;
};

INLINE void read_expected(const struct conn *conn, u32 direction, struct expected *e)
{
	u32 server = *(volatile u32 *)&conn->server_expects, client = *(volatile u32 *)&conn->client_expects;
	e->receiver = direction == INPUT ? server : client;
	e->sender = direction == INPUT ? client : server;
}

INLINE void expect(struct conn *conn, int server, u32 number)
{
	if (server)
		*(volatile u32 *)&conn->server_expects = number;
	else
		*(volatile u32 *)&conn->client_expects = number;
}

/* Moves the state on; UP_* where the engine is to judge. */
INLINE u32 track(struct control *c, const struct packet *p, const struct segment *s, struct conn *conn, u64 cell,
		 u64 word, u32 direction, const struct expected *e, int atomics)
{
	u64 state = word & 0xff, next = state, flags = word >> 8 & 0xff;
	u64 seen = direction == OUTPUT ? flags & ~FLAG_NO_OUTPUT : flags;
	u32 told = 0, proven = direction == OUTPUT && !(flags & FLAG_PROVEN);
	if (p->protocol == IPPROTO_TCP) {
		u64 way = direction == OUTPUT ? OUTPUT : flags & FLAG_NO_OUTPUT ? INPUT_ONLY : INPUT;
		u64 row = (c->flags & CONTROL_STRICT ? 3 : 0) + way;
		u64 key = (row * EVENTS + event_of(s->flags)) * STATES + state;
		u64 *move = bpf_map_lookup_elem(&states, &key);
		if (!move)
			return UP_MALFORMED;
		next = *move & 0xff;
		told = *move & MOVE_TOLD;
		proven = *move & MOVE_PROVEN;
		if (*move & MOVE_SYNCHRONIZED && e->receiver && e->sender && ends(s->flags) &&
		    !near(e->receiver, s->seq))
			return UP_WINDOW;
		if (direction == OUTPUT && state == STATE_SYN_RECV) {
			if (s->flags & TCP_RST)
				return UP_REFUSED;
			if (flags & FLAG_OPENING && (s->flags & (TCP_ACK | TCP_SYN)) == TCP_ACK)
				return UP_REOPEN;
		}
	}
	if (proven)
		seen |= FLAG_PROVEN;
	u64 moved = (word & ~0xffffULL) | seen << 8 | next;
	if (moved == word)
		return 0;
	if (!atomics)
		return UP_STATE;
	if (__sync_val_compare_and_swap(&conn->word, word, moved) != word)
		return UP_BUSY;
	if (told || (proven && flags & FLAG_TELLS))
		tell(c, conn, cell);
	return 0;
}

/* Both numbers after a segment, as core/src/engine/flows/sequence.rs remembers them. */
INLINE void note_sequence(const struct packet *p, const struct segment *s, struct conn *conn, u32 direction,
			  const struct expected *e)
{
	u32 controls = !!(s->flags & TCP_SYN) + !!(s->flags & TCP_FIN);
	u32 end = s->seq + (p->len + ETHERNET - p->l4 - s->header) + controls;
	u32 acks = s->flags & TCP_ACK;
	u32 receiver = e->receiver, sender = e->sender;
	int to_server = direction == INPUT;
	if (s->flags & TCP_SYN) {
		expect(conn, to_server, end);
		expect(conn, !to_server, s->ack);
		return;
	}
	int seq_known = receiver != 0, ack_known = acks && sender != 0;
	if ((!seq_known && !ack_known) || (seq_known && near(receiver, s->seq)) ||
	    (ack_known && near(sender, s->ack))) {
		u32 grew = grown(receiver, end);
		if (grew != receiver)
			expect(conn, to_server, grew);
		if (acks) {
			grew = grown(sender, s->ack);
			if (grew != sender)
				expect(conn, !to_server, grew);
		}
	}
}

INLINE void fix_checksum(struct __sk_buff *skb, const struct packet *p, const struct leg *leg)
{
	u64 flags = p->protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	u32 at = p->l4 + (p->protocol == IPPROTO_UDP ? 6 : 16);
	bpf_l4_csum_replace(skb, at, 0, leg->addresses, flags | BPF_F_PSEUDO_HDR);
	if (leg->port_sum)
		bpf_l4_csum_replace(skb, at, 0, leg->port_sum, flags);
}

/* The new IP header, its TTL one lower; 0 = done. */
INLINE long change4(struct __sk_buff *skb, struct packet *p, const struct leg *leg)
{
	u64 *w = p->head;
	u64 ports = w[2] >> 32, src = w[1] >> 32, dst = w[2] & 0xffffffff;
	if ((leg->kind & LEG_KIND) == LEG_TRANSLATE) {
		src = leg->src[1] >> 32;
		dst = leg->dst[1] >> 32;
		ports = leg->ports;
	}
	u64 rest = (w[1] & 0xffff) - 1;
	u64 first = rest | src << 32, last = dst | ports << 32;
	u64 sum = ~header_sum(w[0], first, last) & 0xffff;
	w[1] = first | sum << 16;
	w[2] = last;
	return bpf_skb_store_bytes(skb, ETHERNET, w, 24, 0);
}

INLINE long change6(struct __sk_buff *skb, struct packet *p, const struct leg *leg)
{
	u64 *w = p->head;
	u64 ports = w[5];
	w[0] -= 1ULL << 56;
	if ((leg->kind & LEG_KIND) == LEG_TRANSLATE) {
		w[1] = leg->src[0];
		w[2] = leg->src[1];
		w[3] = leg->dst[0];
		w[4] = leg->dst[1];
		ports = leg->ports;
	}
	/* Addresses and hop limit have no checksum of their own that would make up for them in CHECKSUM_COMPLETE. */
	if (bpf_skb_store_bytes(skb, ETHERNET, w, 40, BPF_F_RECOMPUTE_CSUM))
		return -1;
	return bpf_skb_store_bytes(skb, ETHERNET + 40, &ports, 4, 0);
}

/* An identification for an outer header: the next one, or one at random where two CPUs want it at once. */
INLINE u64 next_id(struct control *c, int atomics)
{
	u64 last = *(volatile u64 *)&c->ip_id;
	if (atomics && __sync_val_compare_and_swap(&c->ip_id, last, last + 1) == last)
		return last + 1;
	return bpf_get_prandom_u32();
}

/* The outer header; TTL, TOS and DF are the inner packet's, but CE becomes ECT(0); IPv6 has no DF
 * (modes/src/outer.rs).
 */
INLINE long wrap(struct __sk_buff *skb, struct control *c, const struct packet *p, const struct leg *leg, int atomics)
{
	u64 kind = leg->kind & LEG_KIND, inner = p->v6 ? IPPROTO_V6 : IPPROTO_V4;
	u64 tos = p->v6 ? (p->head[0] >> 12 & 0x0f) | (p->head[0] << 4 & 0xf0) : p->head[0] >> 8 & 0xff;
	u64 ttl = p->v6 ? p->head[0] >> 56 : p->head[1] & 0xff;
	u64 df = leg->kind & LEG_COPY_DF && !p->v6 && p->head[0] >> 48 & 0x40;
	u64 outer[5];
	if ((tos & 3) == 3)
		tos -= 1;
	if (kind == LEG_WRAP4) {
		u64 id = df ? 0 : next_id(c, atomics);
		outer[0] = 0x45 | tos << 8 | (u64)swap16(p->len + 20) << 16 | (u64)swap16(id) << 32 |
			   (df ? 0x40ULL << 48 : 0);
		u64 src = leg->src[1] >> 32, dst = leg->dst[1] >> 32;
		outer[1] = ttl | inner << 8 | src << 32;
		outer[2] = dst;
		outer[1] |= (u64)(~header_sum(outer[0], outer[1], dst) & 0xffff) << 16;
		outer[3] = outer[4] = 0;
		u64 type = swap16(ETH_P_IP);
		if (bpf_skb_adjust_room(skb, 20, BPF_ADJ_ROOM_MAC,
					BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 |
						BPF_F_ADJ_ROOM_NO_CSUM_RESET))
			return -1;
		if (bpf_skb_store_bytes(skb, ETHERNET - 2, &type, 2, 0))
			return -1;
		return bpf_skb_store_bytes(skb, ETHERNET, outer, 20, 0);
	}
	outer[0] = 0x60 | tos >> 4 | (tos & 0xf) << 12 | (u64)swap16(p->len) << 32 | inner << 48 | ttl << 56;
	outer[1] = leg->src[0];
	outer[2] = leg->src[1];
	outer[3] = leg->dst[0];
	outer[4] = leg->dst[1];
	u64 type = swap16(ETH_P_IPV6);
	if (bpf_skb_adjust_room(skb, 40, BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | BPF_F_ADJ_ROOM_NO_CSUM_RESET))
		return -1;
	if (bpf_skb_store_bytes(skb, ETHERNET - 2, &type, 2, 0))
		return -1;
	return bpf_skb_store_bytes(skb, ETHERNET, outer, 40, 0);
}

/* Changes the frame for its way out; 0 = done. */
INLINE long change(struct __sk_buff *skb, struct control *c, struct packet *p, const struct leg *leg,
		   const struct hop *hop, int atomics)
{
	u32 kind = leg->kind & LEG_KIND;
	u32 len = p->len + ETHERNET;
	/* What Ethernet has padded a short packet with ends here, as in ip_rcv. */
	if (skb->len > len && !skb->gso_size && bpf_skb_change_tail(skb, len, 0))
		return -1;
	if (p->v6 ? change6(skb, p, leg) : change4(skb, p, leg))
		return -1;
	if (kind == LEG_TRANSLATE)
		fix_checksum(skb, p, leg);
	else if (kind != LEG_PLAIN && wrap(skb, c, p, leg, atomics))
		return -1;
	return bpf_skb_store_bytes(skb, 0, hop->macs, 12, 0);
}

/* Forwards a frame of the connection at `target`: 0, with what becomes of it in `action`, or UP_*. */
INLINE u32 forward(struct __sk_buff *skb, struct control *c, struct packet *p, u64 target, u64 now, int *action,
		   int atomics)
{
	u32 direction = target & 1;
	u64 cell = (target & 0xffffffff) >> 1;
	u64 key = cell * 2 + direction;
	struct conn *conn = bpf_map_lookup_elem(&conns, &cell);
	struct leg *leg = bpf_map_lookup_elem(&legs, &key);
	if (!conn || !leg)
		return UP_KNOWN;
	u64 word = *(volatile u64 *)&conn->word;
	if (word >> 32 != target >> 32 || !leg->kind)
		return UP_KNOWN;
	if (word >> 8 & FLAG_UP)
		return UP_ASKED;
	if (p->why)
		return p->why;
	u64 place = conn->server, at = leg->hop;
	struct server *server = bpf_map_lookup_elem(&servers, &place);
	if (!server || (u32)server->generation != conn->generation || conn->ways != c->ways)
		return UP_STALE;
	struct hop *hop = bpf_map_lookup_elem(&hops, &at);
	if (!hop || !*(volatile u32 *)&hop->mtu)
		return UP_HOP;
	if (leg->arrival && leg->arrival != skb->ifindex)
		return UP_ARRIVAL;
	struct segment s = {};
	struct expected e = {};
	read_expected(conn, direction, &e);
	u32 why = read_transport(skb, p, direction, &s);
	if (why == UP_CHECKSUM && (leg->kind & LEG_KIND) != LEG_TRANSLATE)
		why = 0;
	if (!why)
		why = check_size(skb, p, leg, hop, s.header);
	if (!why)
		why = track(c, p, &s, conn, cell, word, direction, &e, atomics);
	if (why)
		return why;
	if (p->protocol == IPPROTO_TCP) {
		note_sequence(p, &s, conn, direction, &e);
		if (s.flags & TCP_SYN && (word & 0xff) == STATE_SYN_RECV && !conn->answered)
			conn->answered = bpf_ktime_get_ns();
	}
	if (direction == INPUT)
		conn->client_packets++;
	conn->last_seen = now;
	count_server(place, direction, p->len);
	if (word >> 8 & FLAG_COUNTS)
		count_conn(key, p->len);
	u32 len = skb->len;
	*action = TC_ACT_SHOT;
	if (change(skb, c, p, leg, hop, atomics) == 0)
		*action = bpf_redirect(hop->ifindex, 0);
	count_on(skb, leg, *action == TC_ACT_SHOT ? CELL_LOST : CELL_FORWARDED, len);
	return 0;
}

#endif
